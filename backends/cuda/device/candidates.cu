// A block finds the k largest of a part of a row; the block of a row that is last, the k largest of what they found. A
// logit and its token are one number, so that the largest number is the largest logit and, of equal ones, the lowest
// token. One is found by reduction, more by bitonic sorting in shared memory (Batcher 1968). Bound by latency: the
// logits are in L2.
#include "backends/cuda/device/candidates.h"

#include <cfloat>

#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr unsigned kSorted = 2048;                      // numbers that a block sorts at once, two a thread
constexpr unsigned kOnePart = 4096, kOneThreads = 256;  // of a row where only the largest is wanted

/// 0 is less than that of any logit.
__device__ uint64_t number_of(float logit, unsigned token) {
  const float held = isnan(logit) ? -INFINITY : fminf(logit, FLT_MAX) + 0.0f;  // -0 becomes 0
  const auto bits = static_cast<unsigned>(__float_as_int(held));
  const unsigned ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{ordered} << 32 | (0xFFFFFFFFu - token);
}

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

/// Of the first thread.
__device__ uint64_t block_largest(uint64_t v) {
  __shared__ uint64_t parts[kOneThreads / 32];
  const auto of_warp = [](uint64_t x) {
    for (int lane = 16; lane > 0; lane /= 2) {
      const uint64_t other = __shfl_xor_sync(0xFFFFFFFFu, x, lane);
      x = x < other ? other : x;
    }
    return x;
  };
  v = of_warp(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  return of_warp(threadIdx.x < kOneThreads / 32 ? parts[threadIdx.x] : 0);
}

__global__ void __launch_bounds__(kOneThreads) largest(const __grid_constant__ CandidateArgs a) {
  wait_for_previous();
  const unsigned row = blockIdx.y, n = static_cast<unsigned>(a.n), begin = blockIdx.x * kOnePart;
  if (row >= rows_of(a.rows)) return;
  const float* logits = a.logits + row * a.n;
  uint64_t best = 0;
#pragma unroll
  for (unsigned i = 0; i < kOnePart / kOneThreads; ++i) {
    const unsigned token = begin + i * kOneThreads + threadIdx.x;
    const uint64_t number = token < n ? number_of(logits[token], token) : 0;
    best = best < number ? number : best;
  }
  best = block_largest(best);
  uint64_t* parts = a.parts + int64_t{row} * gridDim.x;
  if (threadIdx.x == 0) parts[blockIdx.x] = best;
  if (!is_last(a.arrivals)) return;
  best = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += kOneThreads) {
    const uint64_t number = __ldcg(reinterpret_cast<const unsigned long long*>(parts) + i);
    best = best < number ? number : best;
  }
  best = block_largest(best);
  if (threadIdx.x == 0) put(a, row, best);
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
    numbers[i] = token < n ? number_of(logits[token], token) : 0;
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

unsigned parts_of(int64_t n, int64_t k) {
  const int64_t part = k == 1 ? kOnePart : kSorted;
  return static_cast<unsigned>((n + part - 1) / part);
}

}  // namespace

size_t candidate_parts_bytes(int64_t rows, int64_t n, int64_t k) {
  return static_cast<size_t>(rows * parts_of(n, k) * k) * sizeof(uint64_t);
}

void launch_candidates(const CandidateArgs& a, cudaStream_t stream) {
  const dim3 grid(parts_of(a.n, a.k), static_cast<unsigned>(a.rows.capacity));
  if (a.k == 1) launch_dependent(largest, grid, dim3(kOneThreads), 0, stream, a);
  else launch_dependent(several, grid, dim3(kSorted / 2), 0, stream, a);
}

}  // namespace weft::cuda
