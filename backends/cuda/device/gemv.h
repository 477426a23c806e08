// Weights times a few vectors: what decoding is made of.
#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/device/activations.h"

namespace weft::cuda {

constexpr int kMaxBlocks = 4;   // row blocks of one launch, all of one type
constexpr int kGemvTokens = 8;  // vectors of one pass over the weights

/// Row blocks that act as one matrix [rows, k]; block i is rows [begin[i], begin[i + 1]).
struct GemvWeights {
  const void* block[kMaxBlocks] = {};
  const float* bias[kMaxBlocks] = {};  // of each block's rows, or null
  int64_t begin[kMaxBlocks + 1] = {};
  int n_blocks = 0;
  bool has_bias = false;  // any
  int64_t k = 0;
  uint32_t type = 0;  // TypeTraits::id

  int64_t rows() const { return begin[n_blocks]; }
};

/// y[t, row] = epilogue(dot(x[t], row)), for tokens [0, T). Gated: rows are up, then gate; y has half as many.
struct GemvArgs {
  GemvWeights weights = {};
  const float* x = nullptr;        // [T, k], for f32, f16 and bf16 weights
  FragmentRows fragments = {};     // for quantized ones; or, of a single token,
  NormArgs prologue = {};          // what makes them: each block does so by itself
  const float* largest = nullptr;  // or what the kernel before made of x as `made`; [T]: GemvArgs::made.unscale there
  Extent tokens = {};
  bool gated = false;
  Act act = Act::none;
  float alpha = 0, limit = 0;
  Residual residual = {};
  bool adds = false;  // whether residual has terms
  float* y = nullptr;
  int64_t y_stride = 0;
  // y also as the next product takes it, not scaled, by launch_staged. `unscale`, zeros before: a row's largest
  // magnitude if it passes 2^15.
  FragmentRows made = {};
  bool aligned = false;          // that y and residual are runs of 16 bytes: launch_staged says so
  float* partial = nullptr;      // scratch of staged_scratch() bytes
  unsigned* arrivals = nullptr;  // [kArrivals] zeros, left as zeros
};

/// Of at most n tokens from token t on. Only the first pass counts live ones, later ones run whole.
inline GemvArgs tokens_from(const GemvArgs& args, int64_t t, int64_t n) {
  GemvArgs a = args;
  a.tokens.capacity = args.tokens.capacity - t < n ? args.tokens.capacity - t : n;
  if (t == 0) return a;
  a.tokens.live = nullptr;
  if (a.x != nullptr) a.x += t * a.weights.k;
  if (a.fragments.x != nullptr) a.fragments.x += t * FragmentRows::padded(a.weights.k), a.fragments.unscale += t;
  if (a.largest != nullptr) a.largest += t;
  a.y += t * a.y_stride;
  if (a.made.x != nullptr) a.made.x += t * FragmentRows::padded(a.y_stride), a.made.unscale += t;
  for (const float*& term : a.residual.shared) term = term != nullptr ? term + t * a.y_stride : nullptr;
  if (a.residual.plain != nullptr) a.residual.plain += t * a.y_stride;
  return a;
}

/// Plain weights by f32 activations, kGemvTokens at a time; and quantized ones, in the types and layouts of skinny.h,
/// by one token's activations in 8 bits.
bool gemv_reads(uint32_t type, int64_t k);
/// The longest row that every block of a product of one token norms for itself, in f32, f16 or 8 bits: it has room in
/// every GPU's shared memory.
constexpr int64_t kGemvOwnRow = 8 * 1024, kHalfOwnRow = 16 * 1024, kInt8OwnRow = 30 * 1024;
void launch_gemv(const GemvArgs& args, cudaStream_t stream);

}  // namespace weft::cuda
