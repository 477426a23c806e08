// What every kernel file shares: how many rows are live, grids, sums over a warp or a block.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "backends/cuda/device/extent.h"

namespace weft::cuda {

/// Rows that are live now, held to the capacity: the count is data.
__device__ inline int64_t rows_of(const Extent& extent) {
  if (extent.live == nullptr) return extent.capacity;
  const int64_t live = *extent.live;
  return (live < 0 ? 0 : live < extent.capacity ? live : extent.capacity);
}

constexpr int kThreads = 256;

/// Blocks of kThreads for n elements, one each; loops stride over what is left.
inline unsigned blocks_for(int64_t n) {
  const int64_t blocks = (n + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > 65536 ? 65536 : blocks);
}

inline int sm_count() {
  int device = 0, sms = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
  return sms;
}

/// The major part of its compute capability.
inline int capability_major() {
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  return major;
}

/// Bytes of shared memory that a block may have.
inline size_t shared_memory_limit() {
  int device = 0, bytes = 48 << 10;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return static_cast<size_t>(bytes);
}

/// f(i) for i in [0, n), each a constant.
template <int n, typename Call>
__device__ void for_each(Call&& call) {
  [&]<int... i>(std::integer_sequence<int, i...>) { (call(std::integral_constant<int, i>{}), ...); }
  (std::make_integer_sequence<int, n>{});
}

__device__ inline int64_t thread_index() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t n_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

__device__ inline float warp_sum(float v) {
  for (int lane = 16; lane > 0; lane /= 2) v += __shfl_xor_sync(0xFFFFFFFFu, v, lane);
  return v;
}
__device__ inline float warp_max(float v) {
  for (int lane = 16; lane > 0; lane /= 2) v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFFu, v, lane));
  return v;
}

/// Over all threads of a block of at most 1024, for every one of them: what kWarp, which 0 does not change, gives.
template <float (*kWarp)(float)>
__device__ float block_reduce(float v) {
  __shared__ float parts[32];
  v = kWarp(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  v = threadIdx.x % 32 < (blockDim.x + 31) / 32 ? parts[threadIdx.x % 32] : 0.0f;
  return kWarp(v);
}
__device__ inline float block_sum(float v) { return block_reduce<warp_sum>(v); }
/// Of values that are not negative.
__device__ inline float block_max(float v) { return block_reduce<warp_max>(v); }

}  // namespace weft::cuda
