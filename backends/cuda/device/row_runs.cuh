// What becomes of finished dot products of neighbouring rows.
#pragma once

#include "backends/cuda/device/epilogue.cuh"

namespace weft::cuda {

/// Dot products of a token with four neighbours of the rows; row: of the first, past the last where there is nothing.
struct RowRun {
  int64_t token, row;
  float v[4], gate[4];

  __device__ void set(const float4& x, const float4& y, float by) {
    v[0] = x.x * by, v[1] = x.y * by, v[2] = x.z * by, v[3] = x.w * by;
    gate[0] = y.x * by, gate[1] = y.y * by, gate[2] = y.z * by, gate[3] = y.w * by;
  }
};

template <bool kGated>
__device__ __noinline__ float activated(const GemvArgs& a, float v, float gate) {
  return kGated ? apply_gated(a.act, v, gate, a.alpha, a.limit) : apply(a.act, v);
}
__device__ __noinline__ inline float far_biased(const GemvWeights& w, int64_t row, float v) {
  return biased(w, row, v);
}

/// The same as store() for all of them, with what it loads under way together.
template <bool kGated, size_t n>
__device__ void store_runs(const GemvArgs& a, RowRun (&runs)[n]) {
  const int64_t n_rows = a.weights.begin[a.weights.n_blocks], n_out = kGated ? n_rows / 2 : n_rows;
  const auto each = [&](auto use) {
#pragma unroll
    for (RowRun& run : runs) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if (run.row + c < n_out) use(run, c);
      }
    }
  };
  bool biases = false;
  for (const float* bias : a.weights.bias) biases |= bias != nullptr;
  if (biases) {
    each([&](RowRun& run, int c) {
      run.v[c] = far_biased(a.weights, run.row + c, run.v[c]);
      if (kGated) run.gate[c] = far_biased(a.weights, run.row + c + n_out, run.gate[c]);
    });
  }
  if (kGated || a.act != Act::none) {
    each([&](RowRun& run, int c) { run.v[c] = activated<kGated>(a, run.v[c], run.gate[c]); });
  }
  if (a.adds) {
    const Residual& r = a.residual;
    const auto add = [&](const float* term, bool of_token, float by) {
      if (term == nullptr) return;
      each([&](RowRun& run, int c) { run.v[c] += by * term[(of_token ? run.token * a.y_stride : 0) + run.row + c]; });
    };
    for (const float* term : r.shared) add(term, true, r.scale);
    for (const float* bias : r.bias) add(bias, false, r.scale);
    add(r.plain, true, 1);
  }
  each([&](RowRun& run, int c) { a.y[run.token * a.y_stride + run.row + c] = run.v[c]; });
}

}  // namespace weft::cuda
