// Heads of a token before they are attended with: normed, rotated, kept in the cache.
#pragma once

#include "backends/cuda/device/attention.h"
#include "backends/cuda/device/blocks.cuh"
#include "backends/cuda/device/launch.cuh"

namespace weft::cuda {

/// Cosine and sine of what pair p of token t's heads is rotated by. Frequency and angle are rounded to f32, as models
/// were trained.
__device__ inline float2 rotation_of(const AttentionArgs& a, int64_t t, int p) {
  float frequency = a.frequencies[p];
  if (a.rope_factors != nullptr) frequency /= a.rope_factors[p];
  const float angle = static_cast<float>(a.positions[t]) * frequency;
  return {cosf(angle) * a.rope_attn_scale, sinf(angle) * a.rope_attn_scale};
}

/// rotation_of every pair, by all threads of the block. Out of line: it is long.
__device__ __noinline__ inline void make_rotations(const AttentionArgs& a, int64_t t, float2* rotations) {
  for (int p = static_cast<int>(threadIdx.x); p < a.rotary_dim / 2; p += static_cast<int>(blockDim.x))
    rotations[p] = rotation_of(a, t, p);
}

/// Token t's row of qkv: q heads, then k heads, then v heads.
__device__ inline const float* heads_of(const AttentionArgs& a, int64_t t) {
  return a.qkv + t * (a.n_head + 2 * a.n_kv_head) * a.d;
}

/// Head `head` of token t, which is at `from`, normed and rotated, by a warp; `from` may be `to`. rotation(p): as
/// rotation_of gives it.
template <typename Rotation>
__device__ void make_head(const AttentionArgs& a, int64_t t, int head, const float* from, float* to,
                          Rotation rotation) {
  const int lane = threadIdx.x % 32;
  const bool is_q = head < a.n_head, is_k = !is_q && head < a.n_head + a.n_kv_head;
  const int own = is_q ? head : is_k ? head - a.n_head : head - a.n_head - a.n_kv_head;
  const float* gamma = is_q ? a.q_gamma : is_k ? a.k_gamma : nullptr;
  float scale = 1;
  if (gamma != nullptr) {
    const bool whole = is_q ? a.q_gamma_row : a.k_gamma_row;
    const int heads = is_q ? a.n_head : a.n_kv_head;
    const float* begin = whole ? heads_of(a, t) + (is_q ? 0 : static_cast<int64_t>(a.n_head) * a.d) : from;
    const int64_t length = whole ? static_cast<int64_t>(heads) * a.d : a.d;
    float squares = 0;
    for (int64_t e = lane; e < length; e += 32) squares += begin[e] * begin[e];
    scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(length) + a.qk_norm_eps);
    if (whole) gamma += static_cast<int64_t>(own) * a.d;
  }
  for (int e = lane; e < a.d; e += 32) to[e] = gamma != nullptr ? from[e] * scale * gamma[e] : from[e];
  __syncwarp();
  if ((is_q || is_k) && a.rotary != 0) {
    const int half = a.rotary_dim / 2;
    for (int p = lane; p < half; p += 32) {
      const float2 by = rotation(p);
      float &x = to[a.rotary == 1 ? p : 2 * p], &y = to[a.rotary == 1 ? p + half : 2 * p + 1];
      const float first = x, second = y;
      x = first * by.x - second * by.y;
      y = second * by.x + first * by.y;
    }
  }
  __syncwarp();
}
__device__ __noinline__ inline void make_head(const AttentionArgs& a, int64_t t, int head, float* to) {
  make_head(a, t, head, heads_of(a, t) + static_cast<int64_t>(head) * a.d, to,
            [&](int p) { return rotation_of(a, t, p); });
}

/// A made k or v head of token t into its cache, by a warp.
template <typename Block>
__device__ void keep_head(const AttentionArgs& a, int64_t t, int kv_head, bool is_k, const float* from) {
  const int64_t slot = a.slots[t];
  if (slot < 0 || slot >= a.pages * a.page) return;
  const unsigned page = static_cast<unsigned>(a.page), id = static_cast<unsigned>(slot) / page;
  const int64_t at = (static_cast<int64_t>(id) * a.n_kv_head + kv_head) * page + static_cast<unsigned>(slot) % page;
  constexpr int kElems = static_cast<int>(Block::kElems);
  Block* to = static_cast<Block*>(is_k ? a.k_cache : a.v_cache) + at * (a.d / kElems);
  for (int b = threadIdx.x % 32; b < a.d / kElems; b += 32) to[b].encode(from + b * kElems);
}

}  // namespace weft::cuda
