// Residual, norm, activation and rounding: a block a row, the row in shared memory. Bound by launch and latency for a
// token, by memory for many.
#include "backends/cuda/device/activations.h"

#include <cuda_fp16.h>

#include "backends/cuda/device/act.cuh"
#include "backends/cuda/device/fragments.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr int kRowThreads = 512, kFragmentThreads = 1024;

/// The row times a power of two: 1, unless an element would pass 2^15.
__device__ void write_f16(const float* row, int64_t d, __half* x, float* unscale) {
  float largest = 0;
  for (int64_t i = threadIdx.x; i < d; i += blockDim.x) largest = fmaxf(largest, fabsf(row[i]));
  largest = block_max(largest);
  float scale = 1;
  if (largest > 32768.0f && largest < INFINITY) scale = exp2f(15.0f - static_cast<float>(ilogbf(largest) + 1));
  for (int64_t i = threadIdx.x; i < d; i += blockDim.x) x[i] = __float2half_rn(row[i] * scale);
  if (threadIdx.x == 0) *unscale = 1.0f / scale;
}

/// What a finished row, in shared memory, goes out as.
__device__ void write_row(const float* row, int64_t t, int64_t d, float* out, const F16Rows& f16) {
  if (out != nullptr) {
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) out[t * d + i] = row[i];
  }
  if (f16.x != nullptr) write_f16(row, d, reinterpret_cast<__half*>(f16.x) + t * d, f16.unscale + t);
}

/// A block a row; those of tiles that no token has are zeros.
__global__ void __launch_bounds__(kFragmentThreads) norm_fragments(NormArgs a) {
  let_next_start();
  wait_for_previous();
  const int64_t n_tokens = rows_of(a.tokens), n_rows = FragmentRows::tiles(a.tokens.capacity) * FragmentRows::kTile;
  constexpr int kTile = FragmentRows::kTile;
  for (int64_t t = blockIdx.x; t < n_rows; t += gridDim.x) {
    auto* tile = reinterpret_cast<__half*>(a.fragments.x) + t / kTile * kTile * FragmentRows::padded(a.d);
    if (t >= n_tokens) {
      for (int64_t i = threadIdx.x * 4; i < FragmentRows::padded(a.d); i += blockDim.x * 4) {
        const uint32_t place = FragmentRows::place(static_cast<uint32_t>(i), static_cast<uint32_t>(t % kTile), kTile);
        *reinterpret_cast<uint2*>(tile + place) = {};
      }
      continue;
    }
    const float unscale = write_fragments(a, t, true, tile, static_cast<int>(t % kTile), kTile);
    if (threadIdx.x == 0) a.fragments.unscale[t] = unscale;
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
    write_row(row, t, d, a.out, a.f16);
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kRowThreads) activate_rows(ActArgs a) {
  extern __shared__ float row[];
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
        row[i] = apply_gated(a.act, v, gate, a.alpha, a.limit);
      } else {
        row[i] = apply(a.act, v);
      }
    }
    __syncthreads();
    write_row(row, t, d, a.out, a.f16);
    __syncthreads();
  }
}

__global__ void residual_rows(const float* hidden, const float* unscale, Residual residual, float* y, Extent tokens,
                              int64_t d) {
  let_next_start();
  wait_for_previous();
  const int64_t n = rows_of(tokens) * d;
  for (int64_t i = thread_index(); i < n; i += n_threads()) {
    const int64_t t = i / d;
    y[i] = hidden[i] * (unscale != nullptr ? unscale[t] : 1.0f) + residual_of(residual, t, i % d, d);
  }
}

/// A block a row: usually there is nothing to do.
__global__ void finish_rows(float* y, const float* unscale, const float* bias, Extent tokens, int64_t n,
                            int64_t y_stride) {
  let_next_start();
  wait_for_previous();
  const int64_t n_tokens = rows_of(tokens);
  for (int64_t t = blockIdx.x; t < n_tokens; t += gridDim.x) {
    const float scale = unscale != nullptr ? unscale[t] : 1.0f;
    if (scale == 1.0f && bias == nullptr) continue;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      y[t * y_stride + i] = y[t * y_stride + i] * scale + (bias != nullptr ? bias[i] : 0.0f);
    }
  }
}

/// Rows of up to 48 KiB need no leave; longer ones ask for it.
template <typename Args>
void launch_rows(void (*kernel)(Args), const Args& args, cudaStream_t stream) {
  const size_t bytes = static_cast<size_t>(args.d) * sizeof(float);
  if (bytes > 48 << 10) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  }
  const int64_t tokens = args.tokens.capacity;
  const int threads = args.d >= 2048 ? kRowThreads : args.d >= 512 ? 256 : 128;
  launch_dependent(kernel, dim3(static_cast<unsigned>(tokens < 65535 ? tokens : 65535)),
                   dim3(static_cast<unsigned>(threads)), bytes, stream, args);
}

}  // namespace

void launch_norm(const NormArgs& a, cudaStream_t stream) {
  if (a.fragments.x == nullptr) return launch_rows(norm_rows, a, stream);
  const int64_t threads = (a.d / 4 + 31) / 32 * 32;
  const int64_t rows = FragmentRows::tiles(a.tokens.capacity) * FragmentRows::kTile;
  launch_dependent(norm_fragments, dim3(static_cast<unsigned>(rows)),
                   dim3(static_cast<unsigned>(threads < kFragmentThreads ? threads : kFragmentThreads)), 0, stream, a);
}
void launch_activate(const ActArgs& args, cudaStream_t stream) { launch_rows(activate_rows, args, stream); }

void launch_finish(float* y, const float* unscale, const float* bias, Extent tokens, int64_t n, int64_t y_stride,
                   cudaStream_t stream) {
  launch_dependent(finish_rows, dim3(static_cast<unsigned>(tokens.capacity < 65535 ? tokens.capacity : 65535)),
                   dim3(kThreads), 0, stream, y, unscale, bias, tokens, n, y_stride);
}

void launch_residual(const float* hidden, const float* unscale, const Residual& residual, float* y, Extent tokens,
                     int64_t d, cudaStream_t stream) {
  launch_dependent(residual_rows, dim3(blocks_for(tokens.capacity * d)), dim3(kThreads), 0, stream, hidden, unscale,
                   residual, y, tokens, d);
}

}  // namespace weft::cuda
