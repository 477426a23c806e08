// What products of few rows share: where a row of the weights is, and what becomes of a finished dot product.
#pragma once

#include "backends/cuda/device/act.cuh"
#include "backends/cuda/device/gemv.h"

namespace weft::cuda {

struct Place {
  int block = 0;
  int64_t row = 0;  // in the block
};
__device__ inline Place place_of(const GemvWeights& w, int64_t row) {
  Place place{0, row};
#pragma unroll
  for (int i = 1; i < kMaxBlocks; ++i) {
    if (i < w.n_blocks && row >= w.begin[i]) place = {i, row - w.begin[i]};
  }
  return place;
}

__device__ inline float biased(const GemvWeights& w, int64_t row, float v) {
  const Place at = place_of(w, row);
  const float* bias = w.bias[at.block];
  return bias != nullptr ? v + bias[at.row] : v;
}

/// What is added to a finished dot product: loaded before it is, so that nothing waits for it.
struct Terms {
  float bias = 0, gate_bias = 0, residual = 0;
};
template <bool kGated>
__device__ Terms terms_of(const GemvArgs& a, int64_t t, int64_t row) {
  Terms terms;
  if (a.weights.has_bias) {
    terms.bias = biased(a.weights, row, 0);
    if (kGated) terms.gate_bias = biased(a.weights, row + a.weights.begin[a.weights.n_blocks] / 2, 0);
  }
  if (a.adds) terms.residual = residual_of(a.residual, t, row, a.y_stride);
  return terms;
}

/// y[t, row] from the dot product of that row and, gated, of row + n_out: a sum of its own, `gate`.
template <bool kGated>
__device__ void store(const GemvArgs& a, int64_t t, int64_t row, float v, float gate, const Terms& terms) {
  float y;
  if constexpr (kGated) y = apply_gated(a.act, v + terms.bias, gate + terms.gate_bias, a.alpha, a.limit);
  else y = apply(a.act, v + terms.bias);
  a.y[t * a.y_stride + row] = y + terms.residual;
}

}  // namespace weft::cuda
