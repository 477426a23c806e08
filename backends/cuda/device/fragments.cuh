// A row normed, or as it is, by a whole block: for the products that follow, or for the one that the block itself
// begins with.
#pragma once

#include <cuda_fp16.h>

#include "backends/cuda/device/activations.h"
#include "backends/cuda/device/launch.cuh"

namespace weft::cuda {

/// The power of two that keeps a row in range, by its largest magnitude: 1, unless that passes 2^15.
__device__ inline float range_scale(float largest) {
  return largest > 32768.0f && largest < INFINITY ? exp2f(15.0f - static_cast<float>(ilogbf(largest) + 1)) : 1.0f;
}

/// Four columns, from a multiple of 4 on, of row t, of rows of `padded` columns: held to what f16 can be.
__device__ inline void put_fragment(const FragmentRows& to, int64_t padded, int64_t t, uint32_t column,
                                    const float4& v) {
  constexpr int kTile = FragmentRows::kTile;
  const auto held = [](float x) { return x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x; };
  const __half2 h[2] = {__floats2half2_rn(held(v.x), held(v.z)), __floats2half2_rn(held(v.y), held(v.w))};
  uint16_t* tile = to.x + t / kTile * kTile * padded;
  *reinterpret_cast<uint2*>(tile + FragmentRows::place(column, static_cast<uint32_t>(t % kTile), kTile)) =
      *reinterpret_cast<const uint2*>(h);
}

struct Nothing {
  __device__ void operator()() const {}
};

/// Row t of y = norm(x + residual + bias) by all threads of the block: write(column, y) for every run of kRun columns,
/// y being float[kRun]. a.sum and a.out are written if `keeps`. a.d: a multiple of kRun, kRun of 4. kTurns runs of a
/// thread are asked for together; `write` stands in the code once. Without kNorms a.norm is none. meanwhile() is called
/// when the first runs have been asked for.
template <int kRun, int kTurns, bool kNorms = true, typename Write, typename Meanwhile = Nothing>
__device__ void norm_row(const NormArgs& a, int64_t t, bool keeps, Write write, Meanwhile meanwhile = {}) {
  const unsigned d = static_cast<unsigned>(a.d), step = blockDim.x * kRun;
  using Run = float[kRun];
  const auto read = [](const float* from, unsigned i, Run& to) {
#pragma unroll
    for (int c = 0; c < kRun; c += 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + i + c);
      to[c] = v.x, to[c + 1] = v.y, to[c + 2] = v.z, to[c + 3] = v.w;
    }
  };
  const auto keep = [](float* to, unsigned i, const Run& from) {
#pragma unroll
    for (int c = 0; c < kRun; c += 4) {
      *reinterpret_cast<float4*>(to + i + c) = {from[c], from[c + 1], from[c + 2], from[c + 3]};
    }
  };
  const auto read_sum = [&](unsigned i, Run& v) {
    read(a.x + t * d, i, v);
    const auto add = [&](const float* from) {
      Run other;
      read(from, i, other);
#pragma unroll
      for (int c = 0; c < kRun; ++c) v[c] += other[c];
    };
    if (a.residual != nullptr) add(a.residual + t * d);
    if (a.bias != nullptr) add(a.bias);
  };
  constexpr bool kBetaLate = kRun > 4;  // registers of a long run are few
  const unsigned first = threadIdx.x * kRun;
  Run held[kTurns], gamma, beta = {};  // asked for together
#pragma unroll
  for (unsigned h = 0; h < kTurns; ++h) {
    if (h * step + first < d) read_sum(h * step + first, held[h]);
  }
  const bool norms = kNorms && a.norm != Norm::none;
  const auto read_scales = [&](unsigned i) {
    if (!norms || i >= d) return;
    read(a.gamma, i, gamma);
    if (!kBetaLate && a.beta != nullptr) read(a.beta, i, beta);
  };
  read_scales(first);
  meanwhile();

  float mean = 0, scale = 1;
  if (norms) {
    const auto sum_of = [&](auto value) {
      float sum = 0;
      const auto add = [&](const Run& v) {
#pragma unroll
        for (int c = 0; c < kRun; ++c) sum += value(v[c]);
      };
#pragma unroll
      for (unsigned h = 0; h < kTurns; ++h) {
        if (h * step + first < d) add(held[h]);
      }
#pragma unroll 1
      for (unsigned i = kTurns * step + first; i < d; i += step) {
        Run v;
        read_sum(i, v);
        add(v);
      }
      return block_sum(sum) / static_cast<float>(d);
    };
    // Two passes: the variance of what is nearly constant.
    if (a.norm == Norm::layer) mean = sum_of([](float v) { return v; });
    scale = 1.0f / sqrtf(sum_of([&](float v) { return (v - mean) * (v - mean); }) + a.eps);
  }
#pragma unroll 1
  for (unsigned i = first; i < d; i += step) {
    Run y;
#pragma unroll
    for (int c = 0; c < kRun; ++c) y[c] = held[0][c];
#pragma unroll
    for (int c = 0; c < kRun; ++c) {
#pragma unroll
      for (unsigned h = 1; h < kTurns; ++h) held[h - 1][c] = held[h][c];
    }
    if (const unsigned ahead = i + kTurns * step; ahead < d) read_sum(ahead, held[kTurns - 1]);
    if (keeps && a.sum != nullptr) keep(a.sum + t * d, i, y);
    if (norms) {
#pragma unroll
      for (int c = 0; c < kRun; ++c) y[c] = (y[c] - mean) * scale * gamma[c] + (kBetaLate ? 0.0f : beta[c]);
      if (kBetaLate && a.beta != nullptr) {
        Run late;
        read(a.beta, i, late);
#pragma unroll
        for (int c = 0; c < kRun; ++c) y[c] += late[c];
      }
      read_scales(i + step);
    }
    if (keeps && a.out != nullptr) keep(a.out + t * d, i, y);
    write(i, y);
  }
}

/// A row in 16 bits. pass(by) writes it times `by`, which is 1, and returns the largest that the thread wrote; if one
/// of the row passes 2^15, once more times the power of two that keeps it in range. Returns what undoes that. All
/// threads of the block come here, and all of them see the row when they leave.
template <typename Pass>
__device__ float keep_in_range(Pass pass) {
  float largest = pass(1.0f);
  if (!__syncthreads_or(largest > 32768.0f)) return 1;
  const float by = range_scale(block_max(largest));
  pass(by);
  __syncthreads();
  return 1.0f / by;
}

template <int n>
__device__ float largest_of(const float (&y)[n]) {
  float largest = 0;
#pragma unroll
  for (int c = 0; c < n; ++c) largest = fmaxf(largest, fabsf(y[c]));
  return largest;
}

/// norm_row's y as f16, to row n of a tile of n_rows at `to`, by keep_in_range.
template <int kTurns = 4>
__device__ float write_fragments(const NormArgs& a, int64_t t, bool keeps, __half* to, int n, int n_rows) {
  const auto write = [&](unsigned i, const float(&y)[4], float by) {
    const __half2 h[2] = {__floats2half2_rn(y[0] * by, y[2] * by), __floats2half2_rn(y[1] * by, y[3] * by)};
    *reinterpret_cast<uint2*>(to + FragmentRows::place(i, n, n_rows)) = *reinterpret_cast<const uint2*>(h);
  };
  const float zeros[4] = {};
  for (int64_t i = a.d + threadIdx.x * 4; i < FragmentRows::padded(a.d); i += blockDim.x * 4) {
    write(static_cast<unsigned>(i), zeros, 1);
  }
  return keep_in_range([&](float by) {
    float largest = 0;
    norm_row<4, kTurns>(a, t, keeps && by == 1, [&](unsigned i, const float(&y)[4]) {
      largest = fmaxf(largest, largest_of(y));
      write(i, y, by);
    });
    return largest;
  });
}

/// Eight neighbours, times `by`.
__device__ inline void store_halves(__half* to, const float (&y)[8], float by) {
  __half2 h[4];
#pragma unroll
  for (int c = 0; c < 4; ++c) h[c] = __floats2half2_rn(y[2 * c] * by, y[2 * c + 1] * by);
  *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(h);
}

}  // namespace weft::cuda
