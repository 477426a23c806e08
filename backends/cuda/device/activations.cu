// Residual, norm, activation and rounding: a block a row, the row in shared memory. Bound by launch and latency for a
// token, by memory for many.
#include "backends/cuda/device/activations.h"

#include <cuda_fp16.h>

#include "backends/cuda/device/act.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr int kRowThreads = 512;

__device__ float block_max(float v) {
  __shared__ float parts[32];
  v = warp_max(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  v = threadIdx.x % 32 < (blockDim.x + 31) / 32 ? parts[threadIdx.x % 32] : 0.0f;
  return warp_max(v);
}

/// Groups of 32 columns, a warp each: scale = largest / 127, q to nearest.
__device__ void write_q8(const float* row, int64_t t, int64_t d, const Q8Rows& q8) {
  const int lane = threadIdx.x % 32;
  for (int64_t g = threadIdx.x / 32; g < d / 32; g += blockDim.x / 32) {
    const float v = row[g * 32 + lane];
    const float scale = warp_max(fabsf(v)) / 127.0f, inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    const int code = __float2int_rn(fminf(fmaxf(v * inverse, -127.0f), 127.0f));
    q8.q[q8_place(q8, t, g * 32 + lane)] = static_cast<int8_t>(code);
    int sum = code;
    for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, step);
    const int other = __shfl_sync(0xFFFFFFFFu, sum, 16);
    if (lane == 0)
      q8.groups[t * (q8.stride / 32) + g] = {scale, {static_cast<int16_t>(sum), static_cast<int16_t>(other)}};
  }
}

/// The same by eight threads a group, four columns each from `column` on; all of a warp come here, those that are not
/// `here` with zeros.
__device__ void write_q8_four(const float (&v)[4], const Q8Rows& q8, int64_t t, int64_t column, bool here) {
  float largest = fmaxf(fmaxf(fabsf(v[0]), fabsf(v[1])), fmaxf(fabsf(v[2]), fabsf(v[3])));
  for (int step = 4; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, step));
  const float scale = largest / 127.0f, inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
  int codes = 0, total = 0;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const int code = __float2int_rn(fminf(fmaxf(v[c] * inverse, -127.0f), 127.0f));
    codes |= (code & 0xFF) << (8 * c);
    total += code;
  }
  total += __shfl_xor_sync(0xFFFFFFFFu, total, 1);
  total += __shfl_xor_sync(0xFFFFFFFFu, total, 2);
  const int second = __shfl_down_sync(0xFFFFFFFFu, total, 4);
  if (!here) return;
  *reinterpret_cast<int*>(q8.q + q8_place(q8, t, column)) = codes;
  if (threadIdx.x % 8 == 0) {
    q8.groups[t * (q8.stride / 32) + column / 32] = {scale,
                                                     {static_cast<int16_t>(total), static_cast<int16_t>(second)}};
  }
}

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
__device__ void write_row(const float* row, int64_t t, int64_t d, float* out, const Q8Rows& q8, const F16Rows& f16) {
  if (out != nullptr) {
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) out[t * d + i] = row[i];
  }
  if (q8.q != nullptr) write_q8(row, t, d, q8);
  if (f16.x != nullptr) write_f16(row, d, reinterpret_cast<__half*>(f16.x) + t * d, f16.unscale + t);
}

/// A row in registers, four columns a thread and turn: a token's norm takes as long as its loads, two sums over the
/// block and eight threads' agreement on a group of 32. d: a multiple of 32, at most kTurns * 4096.
template <int kTurns>
__global__ void __launch_bounds__(1024) norm_token(NormArgs a) {
  let_next_start();
  wait_for_previous();
  const int64_t n_tokens = rows_of(a.tokens), d = a.d;
  for (int64_t t = blockIdx.x; t < n_tokens; t += gridDim.x) {
    float v[kTurns][4];
    float sum = 0, squares = 0;
    const auto column = [&](int turn) { return (static_cast<int64_t>(turn) * blockDim.x + threadIdx.x) * 4; };
#pragma unroll
    for (int n = 0; n < kTurns; ++n) {
      const int64_t i = column(n);
#pragma unroll
      for (float& x : v[n]) x = 0;
      if (i >= d) continue;
      const auto add = [&](const float* from) {
        const float4 x = *reinterpret_cast<const float4*>(from + i);
        v[n][0] += x.x, v[n][1] += x.y, v[n][2] += x.z, v[n][3] += x.w;
      };
      add(a.x + t * d);
      if (a.residual != nullptr) add(a.residual + t * d);
      if (a.bias != nullptr) add(a.bias);
      if (a.sum != nullptr) *reinterpret_cast<float4*>(a.sum + t * d + i) = {v[n][0], v[n][1], v[n][2], v[n][3]};
#pragma unroll
      for (const float x : v[n]) sum += x, squares += x * x;
    }
    if (a.norm != Norm::none) {
      float mean = 0;
      if (a.norm == Norm::layer) {
        mean = block_sum(sum) / static_cast<float>(d);
        squares = 0;
#pragma unroll
        for (int n = 0; n < kTurns; ++n) {
          if (column(n) >= d) continue;
#pragma unroll
          for (const float x : v[n]) squares += (x - mean) * (x - mean);
        }
      }
      const float scale = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(d) + a.eps);
#pragma unroll
      for (int n = 0; n < kTurns; ++n) {
        const int64_t i = column(n);
        if (i >= d) continue;
        const float4 gamma = *reinterpret_cast<const float4*>(a.gamma + i);
        const float4 beta = a.beta != nullptr ? *reinterpret_cast<const float4*>(a.beta + i) : float4{};
        v[n][0] = (v[n][0] - mean) * scale * gamma.x + beta.x;
        v[n][1] = (v[n][1] - mean) * scale * gamma.y + beta.y;
        v[n][2] = (v[n][2] - mean) * scale * gamma.z + beta.z;
        v[n][3] = (v[n][3] - mean) * scale * gamma.w + beta.w;
      }
    }
#pragma unroll
    for (int n = 0; n < kTurns; ++n) {
      const int64_t i = column(n);
      if (i - threadIdx.x % 32 * 4 >= d) continue;  // the warp's columns: all four groups of 32 or none are past d
      const bool here = i < d;
      if (a.out != nullptr && here)
        *reinterpret_cast<float4*>(a.out + t * d + i) = {v[n][0], v[n][1], v[n][2], v[n][3]};
      if (a.q8.q == nullptr) continue;
      write_q8_four(v[n], a.q8, t, i, here);
    }
  }
}

/// A row of many columns without a norm: its groups over many blocks, four columns a thread.
__global__ void quantize(const float* x, Q8Rows q8, Extent tokens, int64_t d) {
  let_next_start();
  wait_for_previous();
  const int64_t n = rows_of(tokens) * d / 4;
  const int64_t i = thread_index();
  const bool here = i < n;
  const float4 v = here ? reinterpret_cast<const float4*>(x)[i] : float4{};
  const float values[4] = {v.x, v.y, v.z, v.w};
  write_q8_four(values, q8, i * 4 / d, i * 4 % d, here);
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
    write_row(row, t, d, a.out, a.q8, a.f16);
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
    write_row(row, t, d, a.out, a.q8, a.f16);
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

template <int kTurns>
void launch_token(const NormArgs& a, cudaStream_t stream) {
  const int64_t threads = (a.d / 4 + kTurns - 1) / kTurns, tokens = a.tokens.capacity;
  launch_dependent(norm_token<kTurns>, dim3(static_cast<unsigned>(tokens < 65535 ? tokens : 65535)),
                   dim3(static_cast<unsigned>((threads + 31) / 32 * 32)), 0, stream, a);
}

void launch_norm(const NormArgs& a, cudaStream_t stream) {
  const bool whole = a.d % 32 == 0 && a.f16.x == nullptr;
  const bool only_quantizes = a.norm == Norm::none && a.residual == nullptr && a.bias == nullptr && a.sum == nullptr &&
                              a.out == nullptr && a.q8.q != nullptr;
  if (whole && only_quantizes) {
    const int64_t blocks = (a.tokens.capacity * a.d / 4 + kThreads - 1) / kThreads;
    launch_dependent(quantize, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, a.x, a.q8, a.tokens,
                     a.d);
  } else if (whole && a.d <= 4096) {
    launch_token<1>(a, stream);
  } else if (whole && a.d <= 8192) {
    launch_token<2>(a, stream);
  } else if (whole && a.d <= 16384) {
    launch_token<4>(a, stream);
  } else {
    launch_rows(norm_rows, a, stream);
  }
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
