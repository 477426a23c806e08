// The largest of a row is found by a cluster of blocks, which read all of it at once: 16 logits a thread under way, a
// maximum and the lowest of its tokens over warp, block and cluster. Of several, a block finds the k largest of a part
// of a row; the block of a row that is last, the k largest of what they found: a logit and its token are one number
// (logit_order.cuh), and the number that k are not less than is found bit by bit, by counting. Bound by latency: the
// logits are in L2, and a bit is a count over the block, of which some 25 tell the k largest from the rest.
#include "backends/cuda/device/candidates.h"

#include "backends/cuda/device/cluster.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/logit_order.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr unsigned kOneThreads = 1024;  // where only the largest is wanted
constexpr unsigned kOneCluster = 8;     // blocks a row then: as many as every device with clusters has room for
constexpr unsigned kOneLoads = 16;      // of a thread at a time
constexpr unsigned kSeveralThreads = 1024;
constexpr unsigned kPart = 2 * kSeveralThreads;  // of a row
constexpr unsigned kRoom = 8 * kSeveralThreads;  // for what the parts found, at a time

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

__device__ unsigned warp_total(unsigned v) {
  constexpr unsigned kAll = 0xFFFFFFFFu;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return __reduce_add_sync(kAll, v);
#else
  for (int lane = 16; lane > 0; lane /= 2) v += __shfl_xor_sync(kAll, v, lane);
  return v;
#endif
}

/// The k largest of numbers that differ, n of each thread's and zeros for none, to `kept` in any order, and zeros where
/// there are fewer. What was read of `kept` may be among them.
template <int n>
__device__ void keep_largest(const uint64_t (&x)[n], unsigned k, uint64_t* kept) {
  __shared__ unsigned counts[64], n_kept;
  __syncthreads();  // `kept` has been read, and the counts of a call before
  if (threadIdx.x < 64) counts[threadIdx.x] = 0;
  if (threadIdx.x == 0) n_kept = 0;
  for (unsigned i = threadIdx.x; i < k; i += kSeveralThreads) kept[i] = 0;
  __syncthreads();
  uint64_t least = 0;
#pragma unroll 1
  for (int bit = 63; bit >= 0; --bit) {
    const uint64_t trial = least | uint64_t{1} << bit;
    unsigned mine = 0;
#pragma unroll
    for (int i = 0; i < n; ++i) mine += x[i] >= trial ? 1 : 0;
    mine = warp_total(mine);
    if (threadIdx.x % 32 == 0 && mine > 0) atomicAdd(&counts[bit], mine);
    __syncthreads();
    const unsigned all = counts[bit];
    if (all >= k) least = trial;
    if (all == k) break;  // which comes before the bits end, but where there are fewer than k
  }
#pragma unroll
  for (int i = 0; i < n; ++i) {
    if (x[i] != 0 && x[i] >= least) kept[atomicAdd(&n_kept, 1)] = x[i];
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kSeveralThreads) several(const __grid_constant__ CandidateArgs a) {
  __shared__ uint64_t kept[kMostCandidates];
  wait_for_previous();
  const unsigned row = blockIdx.y, n = static_cast<unsigned>(a.n), k = static_cast<unsigned>(a.k);
  if (row >= rows_of(a.rows)) return;
  const float* logits = a.logits + row * a.n;
  uint64_t own[kPart / kSeveralThreads];
#pragma unroll
  for (unsigned i = 0; i < kPart / kSeveralThreads; ++i) {
    const unsigned token = blockIdx.x * kPart + i * kSeveralThreads + threadIdx.x;
    own[i] = token < n ? number_of(order_of(logits[token]), token) : 0;
  }
  keep_largest(own, k, kept);
  uint64_t* parts = a.parts + int64_t{row} * gridDim.x * k;
  for (unsigned i = threadIdx.x; i < k; i += kSeveralThreads) parts[blockIdx.x * k + i] = kept[i];
  if (!is_last(a.arrivals)) return;
  // The k largest so far, then as many more as there is room for.
  const unsigned total = gridDim.x * k;
  unsigned so_far = 0;
  for (unsigned at = 0; at < total; at += kRoom - so_far, so_far = k) {
    uint64_t found[kRoom / kSeveralThreads];
#pragma unroll
    for (unsigned i = 0; i < kRoom / kSeveralThreads; ++i) {
      const unsigned place = i * kSeveralThreads + threadIdx.x, part = at + place - so_far;
      if (place < so_far) found[i] = kept[place];
      else found[i] = part < total ? __ldcg(reinterpret_cast<const unsigned long long*>(parts) + part) : 0;
    }
    keep_largest(found, k, kept);
  }
  if (threadIdx.x >= k) return;
  const uint64_t number = kept[threadIdx.x];
  unsigned rank = 0;
#pragma unroll 8
  for (unsigned i = 0; i < k; ++i) rank += kept[i] > number ? 1 : 0;
  put(a, int64_t{row} * k + rank, number);
}

/// Where several are wanted.
unsigned parts_of(int64_t n) { return static_cast<unsigned>((n + kPart - 1) / kPart); }

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
    launch_dependent(several, dim3(parts_of(a.n), rows), dim3(kSeveralThreads), 0, stream, a);
  }
}

}  // namespace weft::cuda
