// Residual, norm, activation and rounding: a block a row. Bound by launch and latency for a token, by memory for many.
#include "backends/cuda/device/activations.h"

#include <cuda_fp16.h>

#include "backends/cuda/device/act.cuh"
#include "backends/cuda/device/fragments.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr int kRowThreads = 512, kFragmentThreads = 1024;

/// A block a row; those of tiles that no token has are zeros. kTurns: as norm_row has it.
template <int kTurns>
__global__ void __launch_bounds__(kFragmentThreads) norm_fragments(const __grid_constant__ NormArgs a) {
  begin_after_previous();
  const int64_t n_tokens = rows_of(a.tokens), n_rows = FragmentRows::tiles(a.tokens.capacity) * FragmentRows::kTile;
  constexpr int kTile = FragmentRows::kTile;
  for (int64_t t = blockIdx.x; t < n_rows; t += gridDim.x) {
    auto* tile = reinterpret_cast<__half*>(a.fragments.x) + t / kTile * kTile * FragmentRows::padded(a.d);
    if (t >= n_tokens) {
      for (int64_t i = threadIdx.x * 4; i < FragmentRows::padded(a.d); i += blockDim.x * 4) {
        const uint32_t place = FragmentRows::place(static_cast<uint32_t>(i), static_cast<uint32_t>(t % kTile), kTile);
        *reinterpret_cast<uint2*>(tile + place) = {};
      }
      if (threadIdx.x == 0 && a.clears != nullptr) a.clears[t] = 0;
      continue;
    }
    const float unscale = write_fragments<kTurns>(a, t, true, tile, static_cast<int>(t % kTile), kTile);
    if (threadIdx.x != 0) continue;
    a.fragments.unscale[t] = unscale;
    if (a.clears != nullptr) a.clears[t] = 0;
  }
}

/// As f16: a.d is a multiple of 8.
__global__ void __launch_bounds__(kRowThreads) norm_halves(const __grid_constant__ NormArgs a) {
  let_next_start();
  wait_for_previous();
  const int64_t n_tokens = rows_of(a.tokens);
  for (int64_t t = blockIdx.x; t < n_tokens; t += gridDim.x) {
    auto* row = reinterpret_cast<__half*>(a.f16.x) + t * a.d;
    const float unscale = keep_in_range([&](float by) {
      float largest = 0;
      norm_row<8, 2>(a, t, by == 1, [&](unsigned i, const float(&y)[8]) {
        largest = fmaxf(largest, largest_of(y));
        store_halves(row + i, y, by);
      });
      return largest;
    });
    if (threadIdx.x == 0) a.f16.unscale[t] = unscale;
  }
}

__global__ void __launch_bounds__(kRowThreads) norm_rows(NormArgs a) {
  extern __shared__ float row[];
  let_next_start();
  wait_for_previous();
  const int64_t n_tokens = rows_of(a.tokens), d = a.d;
  for (int64_t t = blockIdx.x; t < n_tokens; t += gridDim.x) {
    float sum = 0, squares = 0;
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
      float v = a.x[t * d + i];
      if (a.residual != nullptr) v += a.residual[t * d + i];
      if (a.bias != nullptr) v += a.bias[i];
      row[i] = v;
      sum += v;
      squares += v * v;
      if (a.sum != nullptr) a.sum[t * d + i] = v;
    }
    if (a.norm != Norm::none) {
      float mean = 0;
      if (a.norm == Norm::layer) {  // two passes: the variance of what is nearly constant
        mean = block_sum(sum) / static_cast<float>(d);
        squares = 0;
        for (int64_t i = threadIdx.x; i < d; i += blockDim.x) squares += (row[i] - mean) * (row[i] - mean);
      }
      const float scale = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(d) + a.eps);
      for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
        row[i] = (row[i] - mean) * scale * a.gamma[i] + (a.beta != nullptr ? a.beta[i] : 0.0f);
      }
    }
    __syncthreads();
    if (a.out != nullptr) {
      for (int64_t i = threadIdx.x; i < d; i += blockDim.x) a.out[t * d + i] = row[i];
    }
    __syncthreads();
  }
}

/// As f16: a.d is a multiple of 8.
__global__ void __launch_bounds__(kRowThreads) activate_halves(const __grid_constant__ ActArgs a) {
  let_next_start();
  wait_for_previous();
  const int64_t n_tokens = rows_of(a.tokens), d = a.d;
  for (int64_t t = blockIdx.x; t < n_tokens; t += gridDim.x) {
    const float* x = a.x + t * d * (a.gated ? 2 : 1);
    auto* row = reinterpret_cast<__half*>(a.f16.x) + t * d;
    const float unscale = a.unscale != nullptr ? a.unscale[t] : 1.0f;
    const auto read = [&](int64_t i, float(&v)[8]) {
#pragma unroll
      for (int c = 0; c < 8; c += 4) {
        const float4 from = *reinterpret_cast<const float4*>(x + i + c);
        float4 bias = {};
        if (a.bias != nullptr) bias = *reinterpret_cast<const float4*>(a.bias + i + c);
        v[c] = fmaf(from.x, unscale, bias.x), v[c + 1] = fmaf(from.y, unscale, bias.y);
        v[c + 2] = fmaf(from.z, unscale, bias.z), v[c + 3] = fmaf(from.w, unscale, bias.w);
      }
    };
    const float own = keep_in_range([&](float by) {
      float largest = 0;
#pragma unroll 2
      for (int64_t i = threadIdx.x * 8; i < d; i += blockDim.x * 8) {
        float v[8], gate[8];
        read(i, v);
        if (a.gated) read(d + i, gate);
#pragma unroll
        for (int c = 0; c < 8; ++c) {
          v[c] = a.gated ? apply_gated<Quick>(a.act, v[c], gate[c], a.alpha, a.limit) : apply<Quick>(a.act, v[c]);
        }
        largest = fmaxf(largest, largest_of(v));
        store_halves(row + i, v, by);
      }
      return largest;
    });
    if (threadIdx.x == 0) a.f16.unscale[t] = own;
  }
}

__global__ void __launch_bounds__(kRowThreads) activate_rows(ActArgs a) {
  let_next_start();
  wait_for_previous();
  const int64_t n_tokens = rows_of(a.tokens), d = a.d;
  for (int64_t t = blockIdx.x; t < n_tokens; t += gridDim.x) {
    const float* x = a.x + t * d * (a.gated ? 2 : 1);
    const float unscale = a.unscale != nullptr ? a.unscale[t] : 1.0f;
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
      const float v = x[i] * unscale + (a.bias != nullptr ? a.bias[i] : 0.0f);
      if (a.gated) {
        const float gate = x[d + i] * unscale + (a.bias != nullptr ? a.bias[d + i] : 0.0f);
        a.out[t * d + i] = apply_gated(a.act, v, gate, a.alpha, a.limit);
      } else {
        a.out[t * d + i] = apply(a.act, v);
      }
    }
  }
}

__global__ void residual_rows(const float* hidden, const float* unscale, const __grid_constant__ Residual residual,
                              float* y, Extent tokens, int64_t d) {
  let_next_start();
  wait_for_previous();
  const int64_t n_tokens = rows_of(tokens);
  for (int64_t t = blockIdx.x; t < n_tokens; t += gridDim.x) {
    const float by = unscale != nullptr ? unscale[t] : 1.0f;
#pragma unroll 4
    for (int64_t c = threadIdx.x; c < d; c += blockDim.x)
      y[t * d + c] = hidden[t * d + c] * by + residual_of(residual, t, c, d);
  }
}

__global__ void bias_rows(float* y, const float* bias, Extent tokens, int64_t n, int64_t y_stride) {
  let_next_start();
  wait_for_previous();
  const int64_t n_tokens = rows_of(tokens);
  for (int64_t t = blockIdx.x; t < n_tokens; t += gridDim.x) {
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) y[t * y_stride + i] += bias[i];
  }
}

/// A block a row. What is subtracted has been added a moment ago, rounded once: against row sums that passed 2^15 times
/// a weight that is nothing.
__global__ void rescale_rows(float* y, const float* unscale, const __grid_constant__ Residual added, Extent tokens,
                             int64_t n, int64_t y_stride) {
  let_next_start();
  wait_for_previous();
  const int64_t n_tokens = rows_of(tokens);
  for (int64_t t = blockIdx.x; t < n_tokens; t += gridDim.x) {
    const float by = unscale[t];
    if (by == 1.0f) continue;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      const float more = residual_of(added, t, i, y_stride);
      y[t * y_stride + i] = (y[t * y_stride + i] - more) * by + more;
    }
  }
}

/// A block a row, with room for it in shared memory if that is asked for: up to 48 KiB need no leave.
template <typename Args>
void launch_rows(void (*kernel)(Args), const Args& args, int64_t a_thread, bool shares, cudaStream_t stream) {
  const size_t bytes = shares ? static_cast<size_t>(args.d) * sizeof(float) : 0;
  if (bytes > 48 << 10) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  }
  const int64_t tokens = args.tokens.capacity, threads = args.d / a_thread;
  launch_dependent(kernel, dim3(static_cast<unsigned>(tokens < 65535 ? tokens : 65535)),
                   dim3(static_cast<unsigned>(threads >= kRowThreads ? kRowThreads
                                              : threads >= 256       ? 256
                                                                     : 128)),
                   bytes, stream, args);
}

}  // namespace

void launch_norm(const NormArgs& a, cudaStream_t stream) {
  if (a.f16.x != nullptr) return launch_rows(norm_halves, a, 8, false, stream);
  if (a.fragments.x == nullptr) return launch_rows(norm_rows, a, 4, true, stream);
  const int64_t threads = (a.d / 4 + 31) / 32 * 32;
  const int64_t rows = FragmentRows::tiles(a.tokens.capacity) * FragmentRows::kTile;
  launch_dependent(a.d <= kFragmentThreads * 4 ? norm_fragments<1> : norm_fragments<4>,
                   dim3(static_cast<unsigned>(rows)),
                   dim3(static_cast<unsigned>(threads < kFragmentThreads ? threads : kFragmentThreads)), 0, stream, a);
}
void launch_activate(const ActArgs& args, cudaStream_t stream) {
  if (args.f16.x != nullptr) launch_rows(activate_halves, args, 16, false, stream);
  else launch_rows(activate_rows, args, 4, false, stream);
}

void launch_add_bias(float* y, const float* bias, Extent tokens, int64_t n, int64_t y_stride, cudaStream_t stream) {
  launch_dependent(bias_rows, dim3(static_cast<unsigned>(tokens.capacity < 65535 ? tokens.capacity : 65535)),
                   dim3(kThreads), 0, stream, y, bias, tokens, n, y_stride);
}

void launch_rescale(float* y, const float* unscale, const Residual& added, Extent tokens, int64_t n, int64_t y_stride,
                    cudaStream_t stream) {
  launch_dependent(rescale_rows, dim3(static_cast<unsigned>(tokens.capacity < 65535 ? tokens.capacity : 65535)),
                   dim3(kThreads), 0, stream, y, unscale, added, tokens, n, y_stride);
}

void launch_residual(const float* hidden, const float* unscale, const Residual& residual, float* y, Extent tokens,
                     int64_t d, cudaStream_t stream) {
  launch_dependent(residual_rows, dim3(static_cast<unsigned>(tokens.capacity < 65535 ? tokens.capacity : 65535)),
                   dim3(kThreads), 0, stream, hidden, unscale, residual, y, tokens, d);
}

}  // namespace weft::cuda
