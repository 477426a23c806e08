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

/// What a head of qkv is normed with, if it is.
struct HeadNorm {
  bool rotates;                  // it is a query or a key
  const float* gamma = nullptr;  // of its elements
  const float* row = nullptr;    // whose mean square it is where that is not its own: of the queries or the keys
  int64_t length = 0;            // of that

  __device__ HeadNorm(const AttentionArgs& a, int64_t t, int head) {
    const bool is_q = head < a.n_head, is_k = !is_q && head < a.n_head + a.n_kv_head;
    rotates = is_q || is_k;
    if (!rotates) return;
    gamma = is_q ? a.q_gamma : a.k_gamma;
    if (gamma == nullptr || !(is_q ? a.q_gamma_row : a.k_gamma_row)) return;
    row = heads_of(a, t) + (is_q ? 0 : static_cast<int64_t>(a.n_head) * a.d);
    length = static_cast<int64_t>(is_q ? a.n_head : a.n_kv_head) * a.d;
    gamma += static_cast<int64_t>(is_q ? head : head - a.n_head) * a.d;
  }
  /// By a warp, of which each lane has squares of its own elements.
  __device__ float scale(const AttentionArgs& a, float squares) const {
    const int64_t n = row != nullptr ? length : a.d;
    if (row != nullptr) {
      squares = 0;
      for (int64_t e = threadIdx.x % 32; e < n; e += 32) squares += row[e] * row[e];
    }
    return 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(n) + a.qk_norm_eps);
  }
};

/// Head `head` of token t, which is at `from`, normed and rotated, by a warp; `from` may be `to`. rotation(p): as
/// rotation_of gives it.
template <typename Rotation>
__device__ void make_head(const AttentionArgs& a, int64_t t, int head, const float* from, float* to,
                          Rotation rotation) {
  const int lane = threadIdx.x % 32;
  const HeadNorm norm(a, t, head);
  float scale = 1;
  if (norm.gamma != nullptr) {
    float squares = 0;
    for (int e = lane; e < a.d; e += 32) squares += from[e] * from[e];
    scale = norm.scale(a, squares);
  }
  for (int e = lane; e < a.d; e += 32) to[e] = norm.gamma != nullptr ? from[e] * scale * norm.gamma[e] : from[e];
  __syncwarp();
  if (norm.rotates && a.rotary != 0) {
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

/// Where the key or value head `kv_head` of token t is kept; null: nowhere.
template <typename Block>
__device__ Block* kept_row(const AttentionArgs& a, int64_t t, int kv_head, bool is_k) {
  const int64_t slot = a.slots[t];
  if (slot < 0 || slot >= a.pages * a.page) return nullptr;
  const unsigned page = static_cast<unsigned>(a.page), id = static_cast<unsigned>(slot) / page;
  const int64_t at = (static_cast<int64_t>(id) * a.n_kv_head + kv_head) * page + static_cast<unsigned>(slot) % page;
  return static_cast<Block*>(is_k ? a.k_cache : a.v_cache) + at * (a.d / static_cast<int>(Block::kElems));
}

/// A made k or v head of token t into its cache, by a warp.
template <typename Block>
__device__ void keep_head(const AttentionArgs& a, int64_t t, int kv_head, bool is_k, const float* from) {
  constexpr int kElems = static_cast<int>(Block::kElems);
  Block* to = kept_row<Block>(a, t, kv_head, is_k);
  if (to == nullptr) return;
  for (int b = threadIdx.x % 32; b < a.d / kElems; b += 32) to[b].encode(from + b * kElems);
}

/// A head of kD elements in the registers of a warp: pairs of elements that are rotated together; what is not rotated
/// goes with its neighbour.
template <int kD>
class WarpHead {
 public:
  static constexpr unsigned kPairs = (kD / 2 + 31) / 32;  // of a lane
  using Rotations = float2[kPairs];

  /// rotation_of this lane's pairs.
  __device__ static void rotations_of(const AttentionArgs& a, int64_t t, Rotations& by) {
#pragma unroll
    for (unsigned n = 0; n < kPairs; ++n) {
      const unsigned p = n * 32 + threadIdx.x % 32;
      by[n] = float2{1, 0};
      if (a.rotary != 0 && static_cast<int>(p) < a.rotary_dim / 2) by[n] = rotation_of(a, t, static_cast<int>(p));
    }
  }
  /// From where qkv has it.
  __device__ void read(const AttentionArgs& a, const float* from) {
    each_pair(a, [&](unsigned n, unsigned i, unsigned j) { pairs_[n] = {from[i], from[j]}; });
  }
  /// Norms and rotates what was read as head `head` of token t.
  __device__ void make(const AttentionArgs& a, int64_t t, int head, const Rotations& rotations) {
    const HeadNorm norm(a, t, head);
    if (norm.gamma != nullptr) {
      float squares = 0;
      each_pair(
          a, [&](unsigned n, unsigned, unsigned) { squares += pairs_[n].x * pairs_[n].x + pairs_[n].y * pairs_[n].y; });
      const float scale = norm.scale(a, squares);
      each_pair(a, [&](unsigned n, unsigned i, unsigned j) {
        pairs_[n] = {pairs_[n].x * scale * norm.gamma[i], pairs_[n].y * scale * norm.gamma[j]};
      });
    }
    if (!norm.rotates || a.rotary == 0) return;
#pragma unroll
    for (unsigned n = 0; n < kPairs; ++n) {
      const float2 v = pairs_[n], by = rotations[n];
      pairs_[n] = {v.x * by.x - v.y * by.y, v.y * by.x + v.x * by.y};
    }
  }
  /// put(element, value) of all of this lane's.
  template <typename Put>
  __device__ void write(const AttentionArgs& a, Put put) const {
    each_pair(a, [&](unsigned n, unsigned i, unsigned j) { put(i, pairs_[n].x), put(j, pairs_[n].y); });
  }

 private:
  /// f(n, i, j): elements i and j are this lane's n-th pair.
  template <typename F>
  __device__ static void each_pair(const AttentionArgs& a, F f) {
    const unsigned half = a.rotary == 1 ? static_cast<unsigned>(a.rotary_dim) / 2 : 0;
#pragma unroll
    for (unsigned n = 0; n < kPairs; ++n) {
      const unsigned p = n * 32 + threadIdx.x % 32;
      if (kD / 2 % 32 == 0 || p < kD / 2) f(n, p < half ? p : 2 * p, p < half ? p + half : 2 * p + 1);
    }
  }

  float2 pairs_[kPairs];
};

}  // namespace weft::cuda
