// Heads of a token before they are attended with: normed, rotated, kept in the cache.
#pragma once

#include "backends/cuda/device/attention.h"
#include "backends/cuda/device/blocks.cuh"
#include "backends/cuda/device/launch.cuh"

namespace weft::cuda {

/// Head `head` of token t's row of qkv (q heads, then k heads, then v heads), normed and rotated, by a warp.
__device__ __noinline__ inline void make_head(const AttentionArgs& a, int64_t t, int head, float* to) {
  const int lane = threadIdx.x % 32;
  const bool is_q = head < a.n_head, is_k = !is_q && head < a.n_head + a.n_kv_head;
  const int own = is_q ? head : is_k ? head - a.n_head : head - a.n_head - a.n_kv_head;
  const float* row = a.qkv + t * (a.n_head + 2 * a.n_kv_head) * a.d;
  const float* from = row + static_cast<int64_t>(head) * a.d;
  const float* gamma = is_q ? a.q_gamma : is_k ? a.k_gamma : nullptr;
  float scale = 1;
  if (gamma != nullptr) {
    const bool whole = is_q ? a.q_gamma_row : a.k_gamma_row;
    const int heads = is_q ? a.n_head : a.n_kv_head;
    const float* begin = whole ? row + (is_q ? 0 : static_cast<int64_t>(a.n_head) * a.d) : from;
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
      // Frequency and angle are rounded to f32, as models were trained.
      float frequency = a.frequencies[p];
      if (a.rope_factors != nullptr) frequency /= a.rope_factors[p];
      const float angle = static_cast<float>(a.positions[t]) * frequency;
      const float c = cosf(angle) * a.rope_attn_scale, s = sinf(angle) * a.rope_attn_scale;
      float &x = to[a.rotary == 1 ? p : 2 * p], &y = to[a.rotary == 1 ? p + half : 2 * p + 1];
      const float first = x, second = y;
      x = first * c - second * s;
      y = second * c + first * s;
    }
  }
  __syncwarp();
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
