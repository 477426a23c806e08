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

/// y[t, row] from the dot product of that row and, gated, of row + n_out: a sum of its own, `gate`.
template <bool kGated>
__device__ __noinline__ void store(const GemvArgs& a, int64_t t, int64_t row, float v, float gate) {
  float y;
  if constexpr (kGated) {
    const int64_t n_out = a.weights.begin[a.weights.n_blocks] / 2;
    y = apply_gated(a.act, biased(a.weights, row, v), biased(a.weights, row + n_out, gate), a.alpha, a.limit);
  } else {
    y = apply(a.act, biased(a.weights, row, v));
  }
  a.y[t * a.y_stride + row] = a.adds ? y + residual_of(a.residual, t, row, a.y_stride) : y;
}

}  // namespace weft::cuda
