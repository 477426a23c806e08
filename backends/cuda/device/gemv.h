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
  int64_t k = 0;
  uint32_t type = 0;  // TypeTraits::id

  int64_t rows() const { return begin[n_blocks]; }
};

/// y[t, first + row] = epilogue(dot(x[t], row)), for tokens [0, T). Gated: rows are up, then gate; y has half as many.
struct GemvArgs {
  GemvWeights weights = {};
  const float* x = nullptr;  // [T, k], for f32, f16 and bf16 weights
  Q8Rows q8 = {};            // for quantized ones
  Extent tokens = {};
  bool gated = false;
  Act act = Act::none;
  float alpha = 0, limit = 0;
  Residual residual = {};
  bool adds = false;  // whether residual has terms
  float* y = nullptr;
  int64_t y_stride = 0;
};

/// Whether weights of that type, k columns, run here: quantized ones in planes (ops/quant/planes.h) or, q4_K and q5_K,
/// as they are; and whether with 8-bit activations.
bool gemv_reads(uint32_t type, int64_t k);
bool gemv_wants_q8(uint32_t type);
void launch_gemv(const GemvArgs& args, cudaStream_t stream);

/// A weight [rows, k] of a type with 8-bit kernels, as they read it, as f16; rows [first, last).
void launch_expand(uint32_t type, const void* weight, int64_t rows, int64_t k, int64_t first, int64_t last,
                   uint16_t* out, cudaStream_t stream);

}  // namespace weft::cuda
