// Attention against the paged KV cache: ops/softmax_context.h says what it means.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "backends/cuda/device/activations.h"
#include "backends/cuda/device/extent.h"

namespace weft::cuda {

constexpr int kMaxHead = 512;         // d
constexpr int64_t kArrivals = 65536;  // heads of tokens whose splits may be under way

struct AttentionArgs {
  const float* qkv = nullptr;   // [T, (n_head + 2 n_kv_head) d]
  float* context = nullptr;     // [T, n_head d]
  FragmentRows fragments = {};  // instead of it, by launch_decode: the context of f16 and q8_0 values is in f16's range
  Extent tokens = {};
  int n_head = 1, n_kv_head = 1, d = 1;

  void *k_cache = nullptr, *v_cache = nullptr;  // [pages, n_kv_head, page, d]
  uint32_t cache_type = 0;                      // TypeTraits::id
  int64_t pages = 0, page = 0;
  const int32_t *positions = nullptr, *slots = nullptr, *sequence_ids = nullptr;  // [T]
  const int32_t *kv_lengths = nullptr, *page_table = nullptr;                     // [S], [S, pages_each]
  int64_t sequences = 0, pages_each = 0;

  // Norms and rotary.
  const float *q_gamma = nullptr, *k_gamma = nullptr;
  bool q_gamma_row = false, k_gamma_row = false;  // over the whole row of heads
  float qk_norm_eps = 0;
  int rotary = 0;  // 0 none, 1 half-split, 2 interleaved
  int rotary_dim = 0;
  float frequencies[kMaxHead / 2] = {};  // rotary, of pairs
  float rope_attn_scale = 1;
  const float* rope_factors = nullptr;

  // Scores.
  float scale = 1, softcap = 0, alibi_scale = 1;
  int window = 0;
  bool alibi = false;
  const float* sinks = nullptr;

  // Scratch, of attention_workspace bytes.
  float* queries = nullptr;  // [T, n_head, d]
  float* partial = nullptr;  // [T, n_head, splits, d + 2]: sum, largest score, sum of weights, in the kernel's order
  int splits = 1;
  unsigned* arrivals = nullptr;  // [kArrivals] zeros, left as zeros
  bool appends = false;          // attention appends the tokens itself
};

/// Up to here the keys of each token are split, and read for each token.
constexpr int64_t kAttendTokens = 64;

/// Keys a block of threads takes before a split begins anew: the same whatever the length, so that results are.
constexpr int64_t kSplitKeys = 256;

/// How many parts the keys of a plan are cut into.
int attention_splits(int64_t tokens, int n_head, int64_t most_keys);
size_t attention_workspace(int64_t tokens, int n_head, int d, int splits);

bool attention_reads(uint32_t cache_type, int d);

/// Norms, rotates, appends: writes queries and the caches.
void launch_append(const AttentionArgs& args, cudaStream_t stream);
/// Appends, then the context.
void launch_attend(const AttentionArgs& args, cudaStream_t stream);

}  // namespace weft::cuda
