// A block takes 64 tokens of one head, a warp 16 of them; keys and values pass through shared memory 64 at a time as
// f16; scores and weights stay in registers (m16n8k16 products, f32 sums, softmax as it goes).
// Source: Dao, "FlashAttention-2", arXiv:2307.08691. Bound by arithmetic: 4 d flops a score.
#include "backends/cuda/device/flash_attention.h"

#include <cuda_pipeline.h>

#include "backends/cuda/device/blocks.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/mma.cuh"
#include "backends/cuda/device/pdl.cuh"
#include "backends/cuda/device/scores.cuh"

namespace weft::cuda {
namespace {

constexpr int kTokens = 64, kKeys = 64, kWarps = 4;

/// Over the four threads that share a row of a product.
__device__ float row_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFFu, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xFFFFFFFFu, v, 2));
}
__device__ float row_sum(float v) {
  v += __shfl_xor_sync(0xFFFFFFFFu, v, 1);
  return v + __shfl_xor_sync(0xFFFFFFFFu, v, 2);
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

/// kD: d, rounded up; columns past d are zeros.
template <int kD, typename Block>
__global__ void __launch_bounds__(kWarps * 32) flash(AttentionArgs a) {
  constexpr int kStride = kD + 8;  // of rows in shared memory: no two rows of a matrix in one bank
  constexpr int kBuffer = 2 * kKeys * kStride;
  extern __shared__ __align__(16) __half tile[];  // two buffers of keys, then values
  __shared__ int64_t cached[kKeys];
  const int page = static_cast<int>(a.page);
  let_next_start();
  wait_for_previous();
  const int64_t n_tokens = rows_of(a.tokens);
  const int64_t first = (static_cast<int64_t>(gridDim.x) - 1 - blockIdx.x) * kTokens;  // the longest rows begin first
  if (first >= n_tokens) return;
  const int head = static_cast<int>(blockIdx.y), kv_head = head / (a.n_head / a.n_kv_head);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t last = (first + kTokens < n_tokens ? first + kTokens : n_tokens) - 1;
  const int64_t rows[2] = {first + warp * 16 + lane / 4, first + warp * 16 + lane / 4 + 8};
  int64_t position[2];
  int sequence[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    position[r] = rows[r] <= last ? a.positions[rows[r]] : -1;
    sequence[r] = rows[r] <= last ? a.sequence_ids[rows[r]] : -1;
  }

  uint32_t q[kD / 16][4];
#pragma unroll
  for (int k = 0; k < kD / 16; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t row = rows[i % 2];
      const int e = k * 16 + i / 2 * 8 + lane % 4 * 2;
      float x = 0, y = 0;
      if (row <= last && e < a.d) {
        const float* from = a.queries + (row * a.n_head + head) * a.d + e;
        x = from[0] * a.scale;
        if (e + 1 < a.d) y = from[1] * a.scale;
      }
      q[k][i] = pack(x, y);
    }
  }
  float context[kD / 8][4] = {};
  float largest[2] = {-INFINITY, -INFINITY}, sums[2] = {};
  const float slope = a.alibi ? slope_of(a, head) : 0.0f;

  // Tokens of a sequence stand together: one after the other, each against its own keys.
  const int first_sequence = a.sequence_ids[first], last_sequence = a.sequence_ids[last];
  for (int s = first_sequence; s <= last_sequence; ++s) {
    if (s < 0 || s >= a.sequences) continue;
    int64_t end = 0, begin = INT64_MAX;  // of the keys any token of the block sees
    // Positions of a sequence ascend: its first and last token of the block say which.
    int64_t low = first, high = last;
    while (low <= last && a.sequence_ids[low] != s) ++low;
    while (high >= first && a.sequence_ids[high] != s) --high;
    if (low <= high) {
      const int64_t p = a.positions[low];
      begin = a.window > 0 && p - a.window + 1 > 0 ? p - a.window + 1 : 0;
      end = a.positions[high] + 1;
    }
    const int64_t length = a.kv_lengths[s], most = a.pages_each * a.page;
    if (end > length) end = length;
    if (end > most) end = most;
    // The tile after the one in work is on its way.
    const auto locate = [&](int64_t j0) {  // the cached rows of a tile: a thread a key
      if (threadIdx.x >= kKeys) return;
      const int64_t j = j0 + threadIdx.x;
      int64_t row = -1;
      if (j < end) {
        const int64_t id = a.page_table[s * a.pages_each + static_cast<int>(j) / page];
        if (id >= 0 && id < a.pages) row = (id * a.n_kv_head + kv_head) * page + static_cast<int>(j) % page;
      }
      cached[threadIdx.x] = row;
    };
    const auto fetch = [&](int buffer) {
      constexpr int kElems = static_cast<int>(Block::kElems);
      __half* to = tile + buffer * kBuffer;
      for (int i = threadIdx.x; i < kKeys * (kD / 8); i += kWarps * 32) {
        const int key = i / (kD / 8), e = i % (kD / 8) * 8;
        const int64_t row = e < a.d ? cached[key] : -1;
        copy_eight(to + key * kStride + e, static_cast<const Block*>(a.k_cache) + row * (a.d / kElems), e, row >= 0);
        copy_eight(to + (kKeys + key) * kStride + e, static_cast<const Block*>(a.v_cache) + row * (a.d / kElems), e,
                   row >= 0);
      }
      __pipeline_commit();
    };
    const int64_t start = begin / kKeys * kKeys;
    __syncthreads();
    if (start < end) {
      locate(start);
      __syncthreads();
      fetch(0);
    }
    int buffer = 0;
    for (int64_t j0 = start; j0 < end; j0 += kKeys, buffer ^= 1) {
      const bool more = j0 + kKeys < end;
      __syncthreads();  // the other buffer and the row table are free
      if (more) locate(j0 + kKeys);
      __syncthreads();
      if (more) fetch(buffer ^ 1);
      __pipeline_wait_prior(more ? 1 : 0);
      __syncthreads();
      const __half *keys = tile + buffer * kBuffer, *values = keys + kKeys * kStride;

      float scores[kKeys / 8][4] = {};
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
#pragma unroll
        for (int k = 0; k < kD / 16; ++k) {
          uint32_t b[4];  // keys 0-7 (d 0-7, 8-15), keys 8-15
          const int row = n * 16 + lane % 8 + lane / 16 * 8, column = k * 16 + lane / 8 % 2 * 8;
          load_matrices(b, keys + row * kStride + column);
          mma(scores[2 * n], q[k], b[0], b[1]);
          mma(scores[2 * n + 1], q[k], b[2], b[3]);
        }
      }
      float now[2] = {largest[0], largest[1]};
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int r = i / 2;
          const int64_t j = j0 + n * 8 + lane % 4 * 2 + i % 2;
          float v = scores[n][i];
          if (a.softcap > 0) v = a.softcap * tanhf(v / a.softcap);
          if (a.alibi) v += slope * static_cast<float>(j - position[r]);
          const bool visible =
              sequence[r] == s && j <= position[r] && j < end && (a.window <= 0 || position[r] - j < a.window);
          scores[n][i] = visible ? v * kLog2E : -INFINITY;
          now[r] = fmaxf(now[r], scores[n][i]);
        }
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        now[r] = row_max(now[r]);
        const float base = now[r] == -INFINITY ? 0.0f : now[r];
        const float factor = exp2f(largest[r] - base);
        largest[r] = now[r];
        float sum = 0;
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
          for (int i = 2 * r; i < 2 * r + 2; ++i) {
            scores[n][i] = exp2f(scores[n][i] - base);
            sum += scores[n][i];
          }
        }
        sums[r] = sums[r] * factor + row_sum(sum);
#pragma unroll
        for (int n = 0; n < kD / 8; ++n) context[n][2 * r] *= factor, context[n][2 * r + 1] *= factor;
      }
#pragma unroll
      for (int k = 0; k < kKeys / 16; ++k) {
        const uint32_t p[4] = {pack(scores[2 * k][0], scores[2 * k][1]), pack(scores[2 * k][2], scores[2 * k][3]),
                               pack(scores[2 * k + 1][0], scores[2 * k + 1][1]),
                               pack(scores[2 * k + 1][2], scores[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < kD / 16; ++n) {
          uint32_t b[4];
          const int row = k * 16 + lane % 16, column = n * 16 + lane / 16 * 8;
          load_transposed(b, values + row * kStride + column);
          mma(context[2 * n], p, b[0], b[1]);
          mma(context[2 * n + 1], p, b[2], b[3]);
        }
      }
    }
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (rows[r] > last) continue;
    const float inverse = inverse_sum(a, head, {largest[r], sums[r]});
    float* to = a.context + (rows[r] * a.n_head + head) * a.d;
#pragma unroll
    for (int n = 0; n < kD / 8; ++n) {
      const int e = n * 8 + lane % 4 * 2;
      if (e < a.d) to[e] = context[n][2 * r] * inverse;
      if (e + 1 < a.d) to[e + 1] = context[n][2 * r + 1] * inverse;
    }
  }
}

template <int kD, typename Block>
void launch_width(const AttentionArgs& a, cudaStream_t stream) {
  constexpr size_t kShared = 2 * 2 * kKeys * (kD + 8) * sizeof(__half);
  if (kShared > 48 << 10) {
    cudaFuncSetAttribute(flash<kD, Block>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kShared));
  }
  const dim3 grid(static_cast<unsigned>((a.tokens.capacity + kTokens - 1) / kTokens), static_cast<unsigned>(a.n_head));
  launch_dependent(flash<kD, Block>, grid, dim3(kWarps * 32), kShared, stream, a);
}

}  // namespace

bool flash_reads(uint32_t cache_type, int d) {
  return with_written_block(cache_type, [](auto) {}) && d % 8 == 0 && d <= 256;
}

void launch_flash(const AttentionArgs& a, cudaStream_t stream) {
  launch_append(a, stream);
  with_written_block(a.cache_type, [&]<typename Block>(Block) {
    if (a.d <= 64) launch_width<64, Block>(a, stream);
    else if (a.d <= 96) launch_width<96, Block>(a, stream);
    else if (a.d <= 128) launch_width<128, Block>(a, stream);
    else launch_width<256, Block>(a, stream);
  });
}

}  // namespace weft::cuda
