// Activations as the matrix kernels take them, and the pass that makes them: residual, norm, rounding, in one kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "backends/cuda/device/extent.h"

namespace weft::cuda {

/// 32 columns of 8-bit activations: what one q is worth, and the sums of q over each half.
struct Q8Group {
  float scale;
  int16_t sums[2];
};

/// Rows of 8-bit activations. Of every 64 columns, the four runs of 16 lie in four planes of a row, so that threads
/// which take neighbouring runs read neighbouring bytes: run r of columns [64 u, 64 u + 64) is at stride / 4 * r + 16
/// u.
struct Q8Rows {
  int8_t* q = nullptr;        // [T, stride]
  Q8Group* groups = nullptr;  // [T, stride / 32]
  int64_t stride = 0;         // k, rounded up to 64

  static int64_t stride_of(int64_t k) { return (k + 63) / 64 * 64; }
  static size_t bytes(int64_t rows, int64_t k) {
    const int64_t row = stride_of(k) + stride_of(k) / 32 * static_cast<int64_t>(sizeof(Q8Group));
    return static_cast<size_t>(rows * row);
  }
  static Q8Rows at(void* memory, int64_t rows, int64_t k) {
    auto* q = static_cast<int8_t*>(memory);
    return {q, reinterpret_cast<Q8Group*>(q + rows * stride_of(k)), stride_of(k)};
  }
};

/// Rows of f16 activations [T, k], each times a power of two that keeps it in range: `unscale` [T] undoes it.
struct F16Rows {
  uint16_t* x = nullptr;
  float* unscale = nullptr;

  static size_t bytes(int64_t rows, int64_t k) { return static_cast<size_t>(rows) * static_cast<size_t>(2 * k + 16); }
  static F16Rows at(void* memory, int64_t rows, int64_t k) {
    auto* x = static_cast<uint16_t*>(memory);
    return {x, reinterpret_cast<float*>(x + rows * ((k + 7) / 8 * 8))};
  }
};

enum class Norm : uint8_t { none, layer, rms };

/// s = x + residual + bias, of what is there; y = norm(s). Any of the outputs may be null.
struct NormArgs {
  const float *x = nullptr, *residual = nullptr, *bias = nullptr;  // [T, d], [T, d], [d]
  Norm norm = Norm::none;
  const float *gamma = nullptr, *beta = nullptr;
  float eps = 0;
  Extent tokens = {};
  int64_t d = 0;
  float* sum = nullptr;  // s
  float* out = nullptr;  // y
  Q8Rows q8 = {};        // y in 8 bits
  F16Rows f16 = {};      // y in 16 bits
};
void launch_norm(const NormArgs& args, cudaStream_t stream);

/// The nonlinearities, as ops/activation.h has them; `none` passes through.
enum class Act : uint8_t { none, gelu_tanh, gelu_erf, relu, silu, swiglu_clamped };

/// y = act(x + bias), or, gated, act(gate + gate_bias) * (x + bias) with x and gate halves of rows of 2 d: first times
/// unscale[t]. f32 rows, and any of three forms out.
struct ActArgs {
  const float* x = nullptr;  // [T, d] or [T, 2 d]
  bool gated = false;
  Act act = Act::none;
  float alpha = 0, limit = 0;
  const float* bias = nullptr;  // [d] or [2 d]
  const float* unscale = nullptr;
  Extent tokens = {};
  int64_t d = 0;
  float* out = nullptr;
  Q8Rows q8 = {};
  F16Rows f16 = {};
};
void launch_activate(const ActArgs& args, cudaStream_t stream);

/// What residual_add adds to `hidden`: scale * (shared terms) + plain. Absent terms are null.
struct Residual {
  const float* shared[2] = {};  // [T, d]
  const float* bias[2] = {};    // [d]
  float scale = 1;
  const float* plain = nullptr;  // [T, d]
};
/// y[t] = hidden[t] * unscale[t] + residual terms.
void launch_residual(const float* hidden, const float* unscale, const Residual& residual, float* y, Extent tokens,
                     int64_t d, cudaStream_t stream);

/// y[t] = y[t] * unscale[t] + bias, in place, for n columns of rows of y_stride; either may be null.
void launch_finish(float* y, const float* unscale, const float* bias, Extent tokens, int64_t n, int64_t y_stride,
                   cudaStream_t stream);

}  // namespace weft::cuda
