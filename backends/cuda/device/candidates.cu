// The largest of a row is found by a cluster of blocks, which read all of it at once: 16 logits a thread under way, a
// maximum and the lowest of its tokens over warp, block and cluster. Of several, a block finds the k largest of a part
// of a row; the block of a row that is last, the k largest of what they found: a logit and its token are one number, so
// that the largest number is the largest logit and, of equal ones, the lowest token; bitonic sorting in shared memory
// (Batcher 1968). Bound by latency: the logits are in L2.
#include "backends/cuda/device/candidates.h"

#include "backends/cuda/device/cluster.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/logit_order.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr unsigned kSorted = 2048;      // numbers that a block sorts at once, two a thread
constexpr unsigned kOneThreads = 1024;  // where only the largest is wanted
constexpr unsigned kOneCluster = 8;     // blocks a row then: as many as every device with clusters has room for
constexpr unsigned kOneLoads = 16;      // of a thread at a time

__device__ void put(const CandidateArgs& a, int64_t at, uint64_t number) {
  const auto ordered = static_cast<unsigned>(number >> 32);
  const float value = __int_as_float(static_cast<int>((ordered >> 31) != 0 ? ordered & 0x7FFFFFFFu : ~ordered));
  if (a.values != nullptr) a.values[at] = value;
  if (a.tokens != nullptr) {
    a.tokens[at] = value == -INFINITY ? -1 : static_cast<int32_t>(0xFFFFFFFFu - static_cast<unsigned>(number));
  }
}

/// Whether this block is the last of its row to come here; what the others wrote before is seen then.
__device__ bool is_last(unsigned* arrivals) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicInc(arrivals + blockIdx.y, gridDim.x - 1) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  return last;
}

struct Best {
  unsigned order, token;
};

/// The largest of a warp's, and of equal ones that of the lowest token, for every lane.
__device__ Best warp_best(Best mine) {
  constexpr unsigned kAll = 0xFFFFFFFFu;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  const unsigned order = __reduce_max_sync(kAll, mine.order);
  return {order, __reduce_min_sync(kAll, mine.order == order ? mine.token : kAll)};
#else
  for (int lane = 16; lane > 0; lane /= 2) {
    const Best other{__shfl_xor_sync(kAll, mine.order, lane), __shfl_xor_sync(kAll, mine.token, lane)};
    if (other.order > mine.order || (other.order == mine.order && other.token < mine.token)) mine = other;
  }
  return mine;
#endif
}

/// A row of the grid is a cluster, or one block.
__global__ void __launch_bounds__(kOneThreads) largest(const __grid_constant__ CandidateArgs a) {
  __shared__ Best parts[kOneThreads / 32];
  static_assert(kOneThreads == 32 * 32, "a warp holds what all warps found");
  wait_for_previous();
  const unsigned row = blockIdx.y, n = static_cast<unsigned>(a.n), stride = gridDim.x * kOneThreads;
  if (row >= rows_of(a.rows)) return;
  const float* logits = a.logits + row * a.n;
  float most = -INFINITY;  // which has no token: what is left at it is never taken, nor is NaN
  unsigned token = 0;
  for (unsigned begin = blockIdx.x * kOneThreads + threadIdx.x; begin < n; begin += kOneLoads * stride) {
    float v[kOneLoads];
#pragma unroll
    for (unsigned i = 0; i < kOneLoads; ++i) v[i] = begin + i * stride < n ? logits[begin + i * stride] : -INFINITY;
#pragma unroll
    for (unsigned i = 0; i < kOneLoads; ++i) {  // upwards: of equal ones the first stays
      const float held = v[i] > FLT_MAX ? FLT_MAX : v[i];
      if (held > most) most = held, token = begin + i * stride;
    }
  }
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Best best = warp_best({order_of(most), token});
  if (lane == 0) parts[warp] = best;
  __syncthreads();
  if (warp == 0) best = warp_best(parts[lane]);
  const auto keep = [&] {
    if (blockIdx.x == 0 && threadIdx.x == 0) put(a, row, number_of(best.order, best.token));
  };
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if (gridDim.x > 1) {
    __shared__ alignas(16) float4 of_block;
    if (threadIdx.x == 0) of_block = {__uint_as_float(best.order), __uint_as_float(best.token), 0, 0};
    arrive_at_cluster();
    wait_for_cluster();
    if (blockIdx.x == 0 && warp == 0) {
      const float4 theirs = load_of_mate(&of_block.x, lane % gridDim.x);
      best = warp_best({__float_as_uint(theirs.x), __float_as_uint(theirs.y)});
      keep();
    }
    arrive_done_at_cluster();  // a block stays as long as it may be read
    return wait_for_cluster();
  }
#endif
  keep();
}

/// Descending, by kSorted / 2 threads.
__device__ void sort(uint64_t* numbers) {
  for (unsigned size = 2; size <= kSorted; size *= 2) {
    for (unsigned step = size / 2; step > 0; step /= 2) {
      __syncthreads();
      const unsigned low = 2 * step * (threadIdx.x / step) + threadIdx.x % step, high = low + step;
      const bool descending = (low & size) == 0;
      const uint64_t x = numbers[low], y = numbers[high];
      if ((x < y) == descending) numbers[low] = y, numbers[high] = x;
    }
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kSorted / 2) several(const __grid_constant__ CandidateArgs a) {
  __shared__ uint64_t numbers[kSorted];
  wait_for_previous();
  const unsigned row = blockIdx.y, n = static_cast<unsigned>(a.n), k = static_cast<unsigned>(a.k);
  if (row >= rows_of(a.rows)) return;
  const float* logits = a.logits + row * a.n;
  for (unsigned i = threadIdx.x; i < kSorted; i += blockDim.x) {
    const unsigned token = blockIdx.x * kSorted + i;
    numbers[i] = token < n ? number_of(order_of(logits[token]), token) : 0;
  }
  sort(numbers);
  uint64_t* parts = a.parts + int64_t{row} * gridDim.x * k;
  for (unsigned i = threadIdx.x; i < k; i += blockDim.x) parts[blockIdx.x * k + i] = numbers[i];
  if (!is_last(a.arrivals)) return;
  // The k largest so far, then as many more as there is room for.
  const unsigned total = gridDim.x * k;
  unsigned kept = 0;
  for (unsigned at = 0; at < total;) {
    for (unsigned i = threadIdx.x; i < kSorted - kept; i += blockDim.x) {
      numbers[kept + i] = at + i < total ? __ldcg(reinterpret_cast<const unsigned long long*>(parts) + at + i) : 0;
    }
    at += kSorted - kept;
    kept = k;
    sort(numbers);
  }
  for (unsigned i = threadIdx.x; i < k; i += blockDim.x) put(a, int64_t{row} * k + i, numbers[i]);
}

/// Where several are wanted.
unsigned parts_of(int64_t n) { return static_cast<unsigned>((n + kSorted - 1) / kSorted); }

}  // namespace

size_t candidate_parts_bytes(int64_t rows, int64_t n, int64_t k) {
  return k == 1 ? 0 : static_cast<size_t>(rows * parts_of(n) * k) * sizeof(uint64_t);
}

void launch_candidates(const CandidateArgs& a, cudaStream_t stream) {
  const auto rows = static_cast<unsigned>(a.rows.capacity);
  if (a.k == 1) {
    const unsigned blocks = capability_major() >= 9 ? kOneCluster : 1;
    launch_dependent(largest, dim3(blocks, rows), dim3(kOneThreads), LaunchShared{0, -1, blocks}, stream, a);
  } else {
    launch_dependent(several, dim3(parts_of(a.n), rows), dim3(kSorted / 2), 0, stream, a);
  }
}

}  // namespace weft::cuda
