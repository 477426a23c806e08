// A block takes 128 tokens of one head, a warp 32 of them: two tiles of rows, so that keys and values which leave
// shared memory are multiplied twice (of wide heads, or where shared memory is small, 64 tokens and one tile). They
// pass through two buffers as f16; scores and weights stay in registers (m16n8k16 products, f32 sums, softmax as it
// goes). Keys that all rows of a warp see are not compared one by one. Bound by arithmetic: 4 d flops a score.
// Source: Dao, "FlashAttention-2", arXiv:2307.08691.
#include "backends/cuda/device/flash_attention.h"

#include <cuda_pipeline.h>

#include <climits>

#include "backends/cuda/device/act.cuh"
#include "backends/cuda/device/blocks.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/mma.cuh"
#include "backends/cuda/device/pdl.cuh"
#include "backends/cuda/device/scores.cuh"

namespace weft::cuda {
namespace {

constexpr int kWarps = 4;
constexpr unsigned kAll = 0xFFFFFFFFu;

/// kD: d, rounded up; kTiles: of 16 tokens, a warp; kKeys: of a step.
template <int kD, int kTiles, int kKeys>
struct Shape {
  static constexpr int kTokens = kWarps * kTiles * 16;
  static constexpr int kStride = kD + 8;               // of rows in shared memory: no two rows of a matrix in one bank
  static constexpr bool kKeepsQueries = kTiles == 1;   // in registers
  static constexpr int kBuffer = 2 * kKeys * kStride;  // keys, then values
  static constexpr int kElements = 2 * kBuffer + (kKeepsQueries ? 0 : kTokens * kStride);
  static constexpr int kBytes = kElements * static_cast<int>(sizeof(__half));
  static constexpr int kAllBytes = kBytes + 2 * kKeys * static_cast<int>(sizeof(int64_t));  // and where keys are
};

/// 2^x; no subnormal results.
__device__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Over the four lanes that share a row of a product.
__device__ float row_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(kAll, v, 1));
  return fmaxf(v, __shfl_xor_sync(kAll, v, 2));
}
__device__ float row_sum(float v) {
  v += __shfl_xor_sync(kAll, v, 1);
  return v + __shfl_xor_sync(kAll, v, 2);
}

/// Eight elements of a cached row as f16.
template <typename Block>
__device__ uint4 eight(const Block* row, int e) {
  if constexpr (std::is_same_v<Block, BlockF16>) {
    return *reinterpret_cast<const uint4*>(row + e);
  } else {
    float v[8];
    if constexpr (Block::kElems == 1) {
      for (int i = 0; i < 8; ++i) row[e + i].decode(v + i);
    } else {
      const float scale = __half2float(__ushort_as_half(row[e / 32].d));
      for (int i = 0; i < 8; ++i) v[i] = scale * static_cast<float>(row[e / 32].qs[e % 32 + i]);
    }
    return {pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7])};
  }
}

/// The same to shared memory; zeros where there is no row. Copies of f16 go by themselves, until the pipeline is waited
/// for.
template <typename Block>
__device__ void copy_eight(__half* to, const Block* row, int e, bool there) {
  if constexpr (std::is_same_v<Block, BlockF16>) {
    if (there) {
      __pipeline_memcpy_async(to, row + e, 16);
      return;
    }
  }
  *reinterpret_cast<uint4*>(to) = there ? eight(row, e) : uint4{};
}

/// Columns past d are zeros.
template <int kD, int kTiles, int kKeys, typename Block>
__global__ void __launch_bounds__(kWarps * 32, kTiles) flash(const __grid_constant__ AttentionArgs a) {
  using S = Shape<kD, kTiles, kKeys>;
  constexpr int kStride = S::kStride, kTokens = S::kTokens, kElems = static_cast<int>(Block::kElems);
  extern __shared__ __align__(16) __half memory[];  // two buffers of keys and values, then queries
  __shared__ int64_t cached[2][kKeys];              // where keys are in the caches, in blocks; or -1
  __half* const queries = memory + 2 * S::kBuffer;
  let_next_start();
  wait_for_previous();
  const int n_tokens = static_cast<int>(rows_of(a.tokens));
  const int first = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kTokens;  // the longest rows begin first
  if (first >= n_tokens) return;
  const int head = static_cast<int>(blockIdx.x), kv_head = head / (a.n_head / a.n_kv_head);
  const int tid = static_cast<int>(threadIdx.x), lane = tid % 32, warp = tid / 32, d = a.d;
  const int last = (first + kTokens < n_tokens ? first + kTokens : n_tokens) - 1;
  const int own = first + warp * kTiles * 16 + lane / 4;  // of this lane's rows: own + 16 tile + 8 half
  const auto query_of = [&](int row) { return a.queries + (int64_t{row} * a.n_head + head) * d; };

  uint32_t kept[S::kKeepsQueries ? kD / 16 : 1][4];
  if constexpr (S::kKeepsQueries) {
#pragma unroll
    for (int k = 0; k < kD / 16; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = own + i % 2 * 8, e = k * 16 + i / 2 * 8 + lane % 4 * 2;
        float2 v = {};
        if (row <= last && e < d) v = *reinterpret_cast<const float2*>(query_of(row) + e);
        kept[k][i] = pack(v.x * a.scale, v.y * a.scale);
      }
    }
  } else {
    for (int i = tid; i < kTokens * (kD / 4); i += kWarps * 32) {
      const int row = i / (kD / 4), e = i % (kD / 4) * 4;
      float4 v = {};
      if (first + row <= last && e < d) v = *reinterpret_cast<const float4*>(query_of(first + row) + e);
      *reinterpret_cast<uint2*>(queries + row * kStride + e) = {pack(v.x * a.scale, v.y * a.scale),
                                                                pack(v.z * a.scale, v.w * a.scale)};
    }
  }
  float context[kTiles][kD / 8][4] = {};
  float largest[kTiles][2], sums[kTiles][2] = {};  // sums: of this lane's keys
#pragma unroll
  for (int t = 0; t < kTiles; ++t) largest[t][0] = largest[t][1] = -INFINITY;
  const float slope = a.alibi ? slope_of(a, head) : 0.0f, by_softcap = 1.0f / a.softcap;

  // Tokens of a sequence stand together: one after the other, each against its own keys.
  const int first_sequence = a.sequence_ids[first], last_sequence = a.sequence_ids[last];
  for (int s = first_sequence; s <= last_sequence; ++s) {
    if (s < 0 || s >= a.sequences) continue;
    int begin = 0, end = 0;  // of the keys any token of the block sees
    // Positions of a sequence ascend: its first and last token of the block say which.
    int low = first, high = last;
    while (low <= last && a.sequence_ids[low] != s) ++low;
    while (high >= first && a.sequence_ids[high] != s) --high;
    if (low <= high) {
      begin = a.window > 0 ? max(a.positions[low] - a.window + 1, 0) : 0;
      end = static_cast<int>(min(int64_t{min(a.positions[high] + 1, a.kv_lengths[s])}, a.pages_each * a.page));
    }
    // Positions of the warp's rows, of which those past the last token see what they like.
    int lowest = INT_MAX, highest = -1;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = own + 16 * t + 8 * r;
        if (row > last) continue;
        const int position = a.sequence_ids[row] == s ? a.positions[row] : -1;
        lowest = min(lowest, position), highest = max(highest, position);
      }
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      lowest = min(lowest, __shfl_xor_sync(kAll, lowest, step));
      highest = max(highest, __shfl_xor_sync(kAll, highest, step));
    }

    const auto locate = [&](int buffer, int j0) {  // the keys of a step: a thread a key
      if (tid >= kKeys) return;
      const int j = j0 + tid;
      int64_t at = -1;
      if (j < end) {
        const auto page = static_cast<unsigned>(a.page), in_table = static_cast<unsigned>(j) / page;
        const int64_t id = a.page_table[s * a.pages_each + in_table];
        if (id >= 0 && id < a.pages)
          at = ((id * a.n_kv_head + kv_head) * page + (static_cast<unsigned>(j) - in_table * page)) * (d / kElems);
      }
      cached[buffer][tid] = at;
    };
    const auto fetch = [&](int buffer) {
      constexpr int kLanes = kD <= 64 ? 8 : kD <= 128 ? 16 : 32;  // a row
      const int e = tid % kLanes * 8;
      if (e < kD) {
        __half* to = memory + buffer * S::kBuffer + tid / kLanes * kStride + e;
#pragma unroll
        for (int key = 0; key < kKeys; key += kWarps * 32 / kLanes, to += kWarps * 32 / kLanes * kStride) {
          const int64_t at = cached[buffer][tid / kLanes + key];
          const bool there = at >= 0 && e < d;
          copy_eight(to, static_cast<const Block*>(a.k_cache) + at, e, there);
          copy_eight(to + kKeys * kStride, static_cast<const Block*>(a.v_cache) + at, e, there);
        }
      }
      __pipeline_commit();
    };
    const int start = begin / kKeys * kKeys;
    __syncthreads();
    locate(0, start);
    locate(1, start + kKeys);
    __syncthreads();
    if (start < end) fetch(0);
    int buffer = 0;
#pragma unroll 1
    for (int j0 = start; j0 < end; j0 += kKeys, buffer ^= 1) {
      __pipeline_wait_prior(0);
      __syncthreads();  // this step is there; the other buffer is free
      if (j0 + kKeys < end) fetch(buffer ^ 1);
      locate(buffer, j0 + 2 * kKeys);
      if (j0 > highest) continue;
      const __half *keys = memory + buffer * S::kBuffer, *values = keys + kKeys * kStride;

      float scores[kTiles][kKeys / 8][4] = {};
#pragma unroll
      for (int k = 0; k < kD / 16; ++k) {
        uint32_t q[kTiles][4];
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          if constexpr (S::kKeepsQueries) {
#pragma unroll
            for (int i = 0; i < 4; ++i) q[t][i] = kept[k][i];
          } else {
            load_matrices(q[t], queries + ((warp * kTiles + t) * 16 + lane % 16) * kStride + k * 16 + lane / 16 * 8);
          }
        }
#pragma unroll
        for (int n = 0; n < kKeys / 16; ++n) {
          uint32_t b[4];  // keys 0-7 (d 0-7, 8-15), keys 8-15
          load_matrices(b, keys + (n * 16 + lane % 8 + lane / 16 * 8) * kStride + k * 16 + lane / 8 % 2 * 8);
#pragma unroll
          for (int t = 0; t < kTiles; ++t) {
            mma(scores[t][2 * n], q[t], b[0], b[1]);
            mma(scores[t][2 * n + 1], q[t], b[2], b[3]);
          }
        }
      }
      const bool all_seen = j0 + kKeys <= end && j0 + kKeys - 1 <= lowest && (a.window <= 0 || highest - j0 < a.window);
      /// use(score, key, position of the token) of every score.
      const auto each_score = [&](auto use) {
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const int row = own + 16 * t + 8 * r;
            const int position = row <= last && a.sequence_ids[row] == s ? a.positions[row] : -1;
#pragma unroll
            for (int i = 0; i < kKeys / 4; ++i)
              use(scores[t][i / 2][2 * r + i % 2], j0 + i / 2 * 8 + lane % 4 * 2 + i % 2, position);
          }
        }
      };
      if (a.softcap > 0) each_score([&](float& v, int, int) { v = a.softcap * Quick::tanh(v * by_softcap); });
      if (a.alibi) each_score([&](float& v, int j, int position) { v += slope * static_cast<float>(j - position); });
      if (!all_seen) {
        each_score([&](float& v, int j, int position) {
          if (j > position || j >= end || (a.window > 0 && position - j >= a.window)) v = -INFINITY;
        });
      }
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        float factor[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          float now = largest[t][r];
#pragma unroll
          for (int n = 0; n < kKeys / 8; ++n) now = fmaxf(now, fmaxf(scores[t][n][2 * r], scores[t][n][2 * r + 1]));
          now = row_max(now);
          const float base = now == -INFINITY ? 0.0f : now * kLog2E;
          factor[r] = power_of_two(fmaf(largest[t][r], kLog2E, -base));
          largest[t][r] = now;
          float sum = 0;
#pragma unroll
          for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; ++i) {
              scores[t][n][i] = power_of_two(fmaf(scores[t][n][i], kLog2E, -base));
              sum += scores[t][n][i];
            }
          }
          sums[t][r] = fmaf(sums[t][r], factor[r], sum);
        }
        if (__any_sync(kAll, factor[0] != 1 || factor[1] != 1)) {
#pragma unroll
          for (int n = 0; n < kD / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) context[t][n][i] *= factor[i / 2];
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kKeys / 16; ++k) {
        uint32_t p[kTiles][4];
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float* v = scores[t][2 * k + i / 2] + i % 2 * 2;
            p[t][i] = pack(v[0], v[1]);
          }
        }
#pragma unroll
        for (int n = 0; n < kD / 16; ++n) {
          uint32_t b[4];
          load_transposed(b, values + (k * 16 + lane % 16) * kStride + n * 16 + lane / 16 * 8);
#pragma unroll
          for (int t = 0; t < kTiles; ++t) {
            mma(context[t][2 * n], p[t], b[0], b[1]);
            mma(context[t][2 * n + 1], p[t], b[2], b[3]);
          }
        }
      }
    }
  }

#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = row_sum(sums[t][r]);
      const int row = own + 16 * t + 8 * r;
      if (row > last) continue;
      const float inverse = inverse_sum(a, head, {largest[t][r] * kLog2E, sum});
      float* to = a.context + (int64_t{row} * a.n_head + head) * d;
#pragma unroll
      for (int n = 0; n < kD / 8; ++n) {
        const int e = n * 8 + lane % 4 * 2;
        if (e < d)
          *reinterpret_cast<float2*>(to + e) = {context[t][n][2 * r] * inverse, context[t][n][2 * r + 1] * inverse};
      }
    }
  }
}

/// f(kD, kTiles, kKeys), integral constants, of the shape that this device has shared memory for; false: of none.
template <typename Call>
bool with_shape(int d, Call&& call) {
  const size_t room = shared_memory_limit();
  const auto is = [&]<int kD, int kTiles, int kKeys>(Shape<kD, kTiles, kKeys> shape) {
    if (d > kD || static_cast<size_t>(shape.kAllBytes) > room) return false;
    call(std::integral_constant<int, kD>{}, std::integral_constant<int, kTiles>{},
         std::integral_constant<int, kKeys>{});
    return true;
  };
  return is(Shape<64, 2, 64>{}) || is(Shape<96, 2, 64>{}) || (d > 96 && is(Shape<128, 2, 64>{})) ||
         is(Shape<128, 1, 32>{}) || is(Shape<256, 1, 32>{});
}

}  // namespace

bool flash_reads(uint32_t cache_type, int d) {
  return with_written_block(cache_type, [](auto) {}) && d % 8 == 0 && with_shape(d, [](auto, auto, auto) {});
}

void launch_flash(const AttentionArgs& a, cudaStream_t stream) {
  launch_append(a, stream);
  with_shape(a.d, [&](auto width, auto tiles, auto keys) {
    with_written_block(a.cache_type, [&]<typename Block>(Block) {
      using S = Shape<width, tiles, keys>;
      const auto kernel = flash<width, tiles, keys, Block>;
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kBytes);
      const auto blocks = static_cast<unsigned>((a.tokens.capacity + S::kTokens - 1) / S::kTokens);
      launch_dependent(kernel, dim3(static_cast<unsigned>(a.n_head), blocks), dim3(kWarps * 32), S::kBytes, stream, a);
    });
  });
}

}  // namespace weft::cuda
