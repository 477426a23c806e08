// A block makes the logits of kExperts by some tokens; the last block of those tokens picks, a warp a token. Of few
// tokens the four warps of a block share out the columns, so that a router's megabyte reaches every SM: bound by two
// trips to memory and one through the counter. Of many each warp has tokens of its own: bound by loads from L1.
#include "backends/cuda/device/moe_route.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "backends/cuda/device/async_copy.cuh"
#include "backends/cuda/device/epilogue.cuh"
#include "backends/cuda/device/formats.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr int kWarps = 4;

__device__ float one(const float* p) { return __ldg(p); }
__device__ float one(const __half* p) { return __half2float(__ldg(p)); }
__device__ float one(const __nv_bfloat16* p) { return __bfloat162float(__ldg(p)); }
__device__ float4 four(const float* p) { return __ldg(reinterpret_cast<const float4*>(p)); }
__device__ float4 four(const __half* p) {
  const uint2 v = load8(p);
  return {half_bits(v.x), half_bits(v.x >> 16), half_bits(v.y), half_bits(v.y >> 16)};
}
__device__ float4 four(const __nv_bfloat16* p) {
  const uint2 v = load8(p);
  return {__uint_as_float(v.x << 16), __uint_as_float(v.x & 0xFFFF0000u), __uint_as_float(v.y << 16),
          __uint_as_float(v.y & 0xFFFF0000u)};
}

/// Larger floats have larger keys; -0 is 0. Never 0.
__device__ uint64_t key_of(float v, unsigned expert) {
  const uint32_t bits = __float_as_uint(v + 0.0f);
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | (0xFFFFFFFFu - expert);
}
__device__ float value_of(uint64_t key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7FFFFFFFu : ~ordered);
}
__device__ uint64_t warp_largest(uint64_t v) {
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) {
    const auto other = static_cast<uint64_t>(__shfl_xor_sync(0xFFFFFFFFu, static_cast<unsigned long long>(v), lane));
    v = v > other ? v : other;
  }
  return v;
}

/// The picks of token t by a warp: lane l has experts l, l + 32, .., and at the end pick l.
__device__ __noinline__ void pick(const RouteArgs& a, int64_t t, unsigned n) {
  constexpr int kEach = kMostExperts / 32;
  const unsigned lane = threadIdx.x % 32;
  float v[kEach];
  float largest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const unsigned e = i * 32 + lane;
    v[i] = e < n ? __ldcg(a.logits + t * n + e) : -INFINITY;
    largest = fmaxf(largest, v[i]);
  }
  if (a.routing != Routing::topk_softmax) {
    largest = warp_max(largest);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (i * 32 >= n) break;
      v[i] = expf(v[i] - largest);
      sum += v[i];
    }
    sum = warp_sum(sum);
#pragma unroll
    for (int i = 0; i < kEach; ++i) v[i] /= sum;
  }
  unsigned taken = 0;
  uint64_t own = 0;
  for (int j = 0; j < a.picks; ++j) {
    uint64_t best = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const unsigned e = i * 32 + lane;
      if (i * 32 >= n) break;
      const uint64_t key = e < n && (taken >> i & 1) == 0 ? key_of(v[i], e) : 0;
      best = key > best ? key : best;
    }
    best = warp_largest(best);
    const unsigned e = 0xFFFFFFFFu - static_cast<uint32_t>(best);
    if (e % 32 == lane) taken |= 1u << e / 32;
    if (static_cast<int>(lane) == j) own = best;
  }
  const bool has = static_cast<int>(lane) < a.picks;
  float weight = has ? value_of(own) : 0.0f;
  if (a.routing == Routing::topk_softmax) {
    const float first = __shfl_sync(0xFFFFFFFFu, weight, 0);
    weight = has ? expf(weight - first) : 0.0f;
  }
  const float sum = warp_sum(weight);
  if (a.routing != Routing::softmax_topk) weight /= sum;
  if (!has) return;
  if (a.ids != nullptr) a.ids[t * a.picks + lane] = static_cast<int32_t>(0xFFFFFFFFu - static_cast<uint32_t>(own));
  if (a.values != nullptr) a.values[t * a.picks + lane] = weight;
}

/// Blocks: x, experts; y, tokens. kSplits warps share the columns of kExperts by kTokens, the others have more tokens.
template <typename T, int kExperts, int kTokens, int kSplits>
__global__ void __launch_bounds__(kWarps * 32) route(const __grid_constant__ RouteArgs a) {
  constexpr int kTile = kTokens * (kWarps / kSplits);  // tokens of a block
  __shared__ float parts[kWarps][kExperts * kTokens];
  __shared__ bool is_last;
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, split = warp % kSplits;
  const auto k = static_cast<unsigned>(a.weights.k);
  const auto n = static_cast<unsigned>(a.weights.begin[a.weights.n_blocks]);
  const unsigned first_expert = blockIdx.x * kExperts;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kTile, own = first + warp / kSplits * kTokens;
  const T* rows[kExperts];
#pragma unroll
  for (int e = 0; e < kExperts; ++e) {
    const Place place = place_of(a.weights, min(first_expert + e, n - 1));  // past the last: the last again
    rows[e] = static_cast<const T*>(a.weights.block[place.block]) + place.row * k;
  }
  if (kSplits > 1) {
    constexpr unsigned kLine = 128 / sizeof(T);
    for (unsigned c = threadIdx.x * kLine; c < k; c += kWarps * 32 * kLine) prefetch(rows[0] + c);
  }
  begin_after_previous();
  const int64_t live = rows_of(a.tokens);
  if (first >= live) return;
  const float* x[kTokens];
#pragma unroll
  for (int t = 0; t < kTokens; ++t) x[t] = a.x + min(own + t, live - 1) * k;

  float sums[kExperts][kTokens] = {};
  if (k % 4 == 0) {
#pragma unroll 2
    for (unsigned c = (split * 32 + lane) * 4; c < k; c += kSplits * 128) {
      float4 w[kExperts];
#pragma unroll
      for (int e = 0; e < kExperts; ++e) w[e] = four(rows[e] + c);
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const float4 v = *reinterpret_cast<const float4*>(x[t] + c);
#pragma unroll
        for (int e = 0; e < kExperts; ++e) sums[e][t] += w[e].x * v.x + w[e].y * v.y + w[e].z * v.z + w[e].w * v.w;
      }
    }
  } else {
    for (unsigned c = split * 32 + lane; c < k; c += kSplits * 32) {
#pragma unroll
      for (int e = 0; e < kExperts; ++e) {
        const float w = one(rows[e] + c);
#pragma unroll
        for (int t = 0; t < kTokens; ++t) sums[e][t] += w * x[t][c];
      }
    }
  }
#pragma unroll
  for (int e = 0; e < kExperts; ++e) {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const float sum = warp_sum(sums[e][t]);
      if (lane == 0) parts[warp][e * kTokens + t] = sum;
    }
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < kExperts * kTile; i += kWarps * 32) {
    const unsigned e = i / kTile, t = i % kTile, slot = t / kTokens * kSplits;
    if (first_expert + e >= n || first + t >= live) continue;
    float sum = 0;
#pragma unroll
    for (int s = 0; s < kSplits; ++s) sum += parts[slot + s][e * kTokens + t % kTokens];
    a.logits[(first + t) * n + first_expert + e] = biased(a.weights, first_expert + e, sum);
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(a.arrivals + blockIdx.y, 1u) == gridDim.x - 1;
    if (is_last) a.arrivals[blockIdx.y] = 0;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  for (int64_t t = first + warp; t < first + kTile && t < live; t += kWarps) pick(a, t, n);
}

template <typename T, int kExperts, int kTokens, int kSplits>
void launch_tiles(const RouteArgs& a, cudaStream_t stream) {
  constexpr int kTile = kTokens * (kWarps / kSplits);
  const auto blocks = [](int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); };
  launch_dependent(route<T, kExperts, kTokens, kSplits>,
                   dim3(blocks(a.weights.rows(), kExperts), blocks(a.tokens.capacity, kTile)), dim3(kWarps * 32), 0,
                   stream, a);
}

template <typename T>
void launch_type(const RouteArgs& a, cudaStream_t stream) {
  if (a.tokens.capacity == 1) launch_tiles<T, 1, 1, kWarps>(a, stream);
  else if (a.tokens.capacity <= 64) launch_tiles<T, 1, 4, kWarps>(a, stream);
  else launch_tiles<T, 4, 4, 1>(a, stream);
}

}  // namespace

bool route_reads(uint32_t type) { return type == 0 || type == 1 || type == 30; }

void launch_route(const RouteArgs& args, cudaStream_t stream) {
  if (args.tokens.capacity == 0) return;
  switch (args.weights.type) {
    case 0:
      return launch_type<float>(args, stream);
    case 1:
      return launch_type<__half>(args, stream);
    default:
      return launch_type<__nv_bfloat16>(args, stream);
  }
}

}  // namespace weft::cuda
