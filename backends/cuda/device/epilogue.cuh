// What products of few rows share: where a row of the weights is, and what becomes of a finished dot product.
#pragma once

#include "backends/cuda/device/act.cuh"
#include "backends/cuda/device/async_copy.cuh"
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

/// The same on their way to shared memory, where they wait for the dot product, as no register has to. `at`: the
/// thread's first of kFloats, which are `stride` apart.
template <bool kGated>
struct FarTerms {
  static constexpr unsigned kFloats = kGated ? 2 : 6;  // bias and gate's; or bias and what the residual is made of
  float* at;
  unsigned stride;

  /// Biases are weights: they may be asked for before the kernel waits.
  __device__ void ask_biases(const GemvArgs& a, int64_t row) const {
    if (!a.weights.has_bias) return;
    ask_bias(0, a.weights, row);
    if (kGated) ask_bias(1, a.weights, row + a.weights.begin[a.weights.n_blocks] / 2);
  }
  __device__ void ask_residual(const GemvArgs& a, int64_t t, int64_t row) const {
    if (kGated || !a.adds) return;  // of a gated product it is read in the end: no layer has one
    const Residual& r = a.residual;
    const int64_t own = t * a.y_stride + row;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      ask(1 + i, r.shared[i], own);
      ask(3 + i, r.bias[i], row);
    }
    ask(5, r.plain, own);
  }
  /// When the copies have been awaited.
  __device__ Terms sum(const GemvArgs& a, int64_t t, int64_t row) const {
    Terms terms;
    if (a.weights.has_bias) {
      terms.bias = term(0);
      if (kGated) terms.gate_bias = term(1);
    }
    if (!a.adds) return terms;
    if constexpr (kGated) terms.residual = residual_of(a.residual, t, row, a.y_stride);
    else terms.residual = (term(1) + term(2) + term(3) + term(4)) * a.residual.scale + term(5);
    return terms;
  }

 private:
  __device__ float& term(unsigned n) const { return at[n * stride]; }
  __device__ void ask_bias(unsigned n, const GemvWeights& w, int64_t row) const {
    const Place place = place_of(w, row);
    ask(n, w.bias[place.block], place.row);
  }
  __device__ void ask(unsigned n, const float* from, int64_t i) const {
    if (from == nullptr) term(n) = 0;
    else copy4_async(static_cast<uint32_t>(__cvta_generic_to_shared(&term(n))), from + i);
  }
};

/// y[t, row] from the dot product of that row and, gated, of row + n_out: a sum of its own, `gate`.
template <bool kGated>
__device__ void store(const GemvArgs& a, int64_t t, int64_t row, float v, float gate, const Terms& terms) {
  float y;
  if constexpr (kGated) y = apply_gated(a.act, v + terms.bias, gate + terms.gate_bias, a.alpha, a.limit);
  else y = apply(a.act, v + terms.bias);
  a.y[t * a.y_stride + row] = y + terms.residual;
}

}  // namespace weft::cuda
