// Activations as the matrix kernels take them, and the pass that makes them: residual, norm, rounding, in one kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "backends/cuda/device/extent.h"

namespace weft::cuda {

/// Rows of f16 activations as tensor cores take them, the B operand of mma.m16n8k16 (PTX ISA, "Matrix Fragments"), in
/// tiles of 8 rows. The order of k is ours: lane 4 n + t of a warp has columns [64 t, 64 t + 64) of every 256 of row n,
/// 8 a load, and of every 4 columns the order 0, 2, 1, 3. Each row is times a power of two that keeps it in range:
/// `unscale` [T] undoes it. Columns past k, up to a multiple of 256, are zeros.
struct FragmentRows {
  uint16_t* x = nullptr;
  float* unscale = nullptr;

  static constexpr int kTile = 8;
  __host__ __device__ static constexpr int64_t padded(int64_t k) { return (k + 255) / 256 * 256; }
  /// Where column c of row n of a tile of n_rows is; four columns from a multiple of 4 on are neighbours.
  __host__ __device__ static constexpr uint32_t place(uint32_t c, uint32_t n, uint32_t n_rows) {
    return (((c / 256 * 8 + c % 64 / 8) * n_rows + n) * 4 + c % 256 / 64) * 8 + c % 8 / 4 * 4;
  }
  /// A product takes one, two or four tiles at a time.
  __host__ __device__ static constexpr int64_t tiles(int64_t rows) {
    const int64_t n = (rows + kTile - 1) / kTile;
    return n % 4 == 3 ? n + 1 : n;
  }
  static size_t bytes(int64_t rows, int64_t k) {
    return static_cast<size_t>(tiles(rows) * kTile * (padded(k) * 2 + static_cast<int64_t>(sizeof(float))));
  }
  static FragmentRows at(void* memory, int64_t rows, int64_t k) {
    auto* x = static_cast<uint16_t*>(memory);
    return {x, reinterpret_cast<float*>(x + tiles(rows) * kTile * padded(k))};
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
  F16Rows f16 = {};      // y in 16 bits
  FragmentRows fragments = {};
  float* clears = nullptr;  // [T], up to whole tiles: with fragments, made zeros for a kernel that follows
};
void launch_norm(const NormArgs& args, cudaStream_t stream);

/// The nonlinearities, as ops/activation.h has them; `none` passes through.
enum class Act : uint8_t { none, gelu_tanh, gelu_erf, relu, silu, swiglu_clamped };

/// y = act(x + bias), or, gated, act(gate + gate_bias) * (x + bias) with x and gate halves of rows of 2 d: first times
/// unscale[t]. f32 rows, and either form out.
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

/// y[t] += bias, for n columns of rows of y_stride.
void launch_add_bias(float* y, const float* bias, Extent tokens, int64_t n, int64_t y_stride, cudaStream_t stream);

/// y[t] is v[t] + added terms and is to be v[t] * unscale[t] + added terms, for n columns of rows of y_stride, of which
/// the [T, d] terms have as many. Usually every factor is 1 and there is nothing to do.
void launch_rescale(float* y, const float* unscale, const Residual& added, Extent tokens, int64_t n, int64_t y_stride,
                    cudaStream_t stream);

}  // namespace weft::cuda
