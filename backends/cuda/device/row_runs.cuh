// What becomes of finished dot products of neighbouring rows. Every block runs this once or twice, from a cold cache of
// instructions: little code, not unrolled, counts for more than few instructions.
#pragma once

#include "backends/cuda/device/epilogue.cuh"

namespace weft::cuda {

template <bool kGated>
__device__ __noinline__ float activated(const GemvArgs& a, float v, float gate) {
  return kGated ? apply_gated(a.act, v, gate, a.alpha, a.limit) : apply(a.act, v);
}
__device__ __noinline__ inline float far_biased(const GemvWeights& w, int64_t row, float v) {
  return biased(w, row, v);
}
/// Rows that are not whole runs of 16 bytes.
__device__ __noinline__ inline void store_singly(const GemvArgs& a, int64_t token, int64_t row, int64_t n_out,
                                                 float4 v) {
  const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    if (row + c >= n_out) return;
    a.y[token * a.y_stride + row + c] =
        values[c] + (a.adds ? residual_of(a.residual, token, row + c, a.y_stride) : 0.0f);
  }
}

/// What is added to four rows of a token, where all is whole runs: loaded before it is wanted.
__device__ inline float4 run_terms(const GemvArgs& a, int64_t token, int64_t row) {
  float4 sum = {};
  if (!a.adds || !a.aligned) return sum;
  const Residual& r = a.residual;
  const int64_t at = token * a.y_stride + row;
  const auto add = [&](const float* term, int64_t i, float by) {
    if (term == nullptr) return;
    const float4 x = *reinterpret_cast<const float4*>(term + i);
    sum.x += by * x.x, sum.y += by * x.y, sum.z += by * x.z, sum.w += by * x.w;
  };
  for (const float* term : r.shared) add(term, at, r.scale);
  for (const float* bias : r.bias) add(bias, row, r.scale);
  add(r.plain, at, 1);
  return sum;
}

/// The same as store() for dot products of a token with four rows, from `row` on, and with their gate rows; in `v`
/// stays what the activation made of them.
template <bool kGated>
__device__ void store_run(const GemvArgs& a, int64_t token, int64_t row, int64_t n_out, float (&v)[4], float (&gate)[4],
                          const float4& terms) {
  bool biases = false;
  for (const float* bias : a.weights.bias) biases |= bias != nullptr;
  if (biases) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      if (row + c >= n_out) break;
      v[c] = far_biased(a.weights, row + c, v[c]);
      if (kGated) gate[c] = far_biased(a.weights, row + c + n_out, gate[c]);
    }
  }
  if (kGated || a.act != Act::none) {
#pragma unroll
    for (int c = 0; c < 4; ++c) v[c] = activated<kGated>(a, v[c], gate[c]);
  }
  if (!a.aligned) return store_singly(a, token, row, n_out, {v[0], v[1], v[2], v[3]});
  *reinterpret_cast<float4*>(a.y + token * a.y_stride + row) = {v[0] + terms.x, v[1] + terms.y, v[2] + terms.z,
                                                                v[3] + terms.w};
}

/// Whether all that store_run reads and writes is runs of 16 bytes.
inline bool stores_whole_runs(const GemvArgs& a, int64_t n_out) {
  uintptr_t bits = reinterpret_cast<uintptr_t>(a.y) | static_cast<uintptr_t>((n_out | a.y_stride) * 4);
  for (const float* term : a.residual.shared) bits |= reinterpret_cast<uintptr_t>(term);
  for (const float* term : a.residual.bias) bits |= reinterpret_cast<uintptr_t>(term);
  return ((bits | reinterpret_cast<uintptr_t>(a.residual.plain)) & 15) == 0;
}

}  // namespace weft::cuda
