// Decoding: a block takes one token, one kv head and one split of the keys; the queries of the head's group share every
// key and value read. Scores: a thread a key. Context: a thread a column. Then the splits are merged.
// Many tokens run the same way, unsplit: flash_attention.cu is for them.
#include "backends/cuda/device/attention.h"

#include "backends/cuda/device/blocks.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr int kKeys = 128;     // scored at a time, a thread each
constexpr int kMaxGroup = 16;  // query heads of a kv head that share a pass

/// Elements of a row of a cache, 8 at a time where that can be.
template <typename Block>
struct Row {
  const Block* blocks;
  __device__ float at(int i) const {
    constexpr int kElems = static_cast<int>(Block::kElems);
    if constexpr (kElems == 1) {
      float v;
      blocks[i].decode(&v);
      return v;
    } else {
      return half_value(blocks[i / kElems]) * static_cast<float>(blocks[i / kElems].qs[i % kElems]);
    }
  }
  __device__ static float half_value(const quant::BlockQ8_0& block) { return __half2float(__ushort_as_half(block.d)); }
};

/// A warp a head of a token: q heads, then k heads, then v heads.
template <typename Block>
__global__ void append(AttentionArgs a) {
  extern __shared__ float memory[];
  let_next_start();
  wait_for_previous();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
  float* head_row = memory + warp * a.d;
  const int n_heads = a.n_head + 2 * a.n_kv_head;
  const int64_t n = rows_of(a.tokens) * n_heads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * n_warps + warp; i < n;
       i += static_cast<int64_t>(gridDim.x) * n_warps) {
    const int64_t t = i / n_heads;
    const int head = static_cast<int>(i % n_heads);
    const bool is_q = head < a.n_head, is_k = !is_q && head < a.n_head + a.n_kv_head;
    const int own = is_q ? head : is_k ? head - a.n_head : head - a.n_head - a.n_kv_head;
    const float* row = a.qkv + t * n_heads * a.d;
    const float* from = row + static_cast<int64_t>(head) * a.d;
    const float* gamma = is_q ? a.q_gamma : is_k ? a.k_gamma : nullptr;
    float scale = 1;
    if (gamma != nullptr) {
      const bool whole = is_q ? a.q_gamma_row : a.k_gamma_row;
      const int heads = is_q ? a.n_head : a.n_kv_head;
      const float* begin = whole ? row + (is_q ? 0 : static_cast<int64_t>(a.n_head) * a.d) : from;
      const int64_t length = whole ? static_cast<int64_t>(heads) * a.d : a.d;
      float squares = 0;
      for (int64_t e = lane; e < length; e += 32) squares += begin[e] * begin[e];
      scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(length) + a.qk_norm_eps);
      if (whole) gamma += static_cast<int64_t>(own) * a.d;
    }
    __syncwarp();
    for (int e = lane; e < a.d; e += 32) head_row[e] = gamma != nullptr ? from[e] * scale * gamma[e] : from[e];
    __syncwarp();
    if ((is_q || is_k) && a.rotary != 0) {
      const int half = a.rotary_dim / 2;
      for (int p = lane; p < half; p += 32) {
        // Frequency and angle are rounded to f32, as models were trained.
        float frequency = static_cast<float>(pow(a.rope_theta, -2.0 * p / a.rotary_dim));
        if (a.rope_factors != nullptr) frequency /= a.rope_factors[p];
        const float angle = static_cast<float>(a.positions[t]) * frequency;
        const float c = cosf(angle) * a.rope_attn_scale, s = sinf(angle) * a.rope_attn_scale;
        float &x = head_row[a.rotary == 1 ? p : 2 * p], &y = head_row[a.rotary == 1 ? p + half : 2 * p + 1];
        const float first = x, second = y;
        x = first * c - second * s;
        y = second * c + first * s;
      }
      __syncwarp();
    }
    if (is_q) {
      float* to = a.queries + (t * a.n_head + own) * a.d;
      for (int e = lane; e < a.d; e += 32) to[e] = head_row[e];
    } else {
      const int64_t slot = a.slots[t];
      if (slot < 0 || slot >= a.pages * a.page) continue;
      const int64_t at = (slot / a.page * a.n_kv_head + own) * a.page + slot % a.page;
      constexpr int kElems = static_cast<int>(Block::kElems);
      Block* to = static_cast<Block*>(is_k ? a.k_cache : a.v_cache) + at * (a.d / kElems);
      for (int b = lane; b < a.d / kElems; b += 32) to[b].encode(head_row + b * kElems);
    }
  }
}

__device__ float slope_of(const AttentionArgs& a, int head) {
  int n = 1;
  while (2 * n <= a.n_head) n *= 2;
  const double power = head < n ? -8.0 * (head + 1) / n : -4.0 * (2 * (head - n) + 1) / n;
  return static_cast<float>(static_cast<double>(a.alibi_scale) * exp2(power));
}

template <typename Block>
__global__ void __launch_bounds__(kKeys) attend(AttentionArgs a, int group) {
  extern __shared__ float memory[];
  let_next_start();
  wait_for_previous();
  const int d = a.d, tid = threadIdx.x;
  const int n_groups = (a.n_head / a.n_kv_head + group - 1) / group;
  const int kv_head = static_cast<int>(blockIdx.x) / n_groups, part = static_cast<int>(blockIdx.x) % n_groups;
  const int first_head = kv_head * (a.n_head / a.n_kv_head) + part * group;
  const int left = a.n_head / a.n_kv_head - part * group, heads = left < group ? left : group;
  const int64_t t = blockIdx.y, split = blockIdx.z;
  if (t >= rows_of(a.tokens)) return;
  const int64_t sequence = a.sequence_ids[t];
  const bool known = sequence >= 0 && sequence < a.sequences;
  const int64_t position = a.positions[t], length = known ? a.kv_lengths[sequence] : 0;
  // Visible: [begin, end) of what this split has.
  int64_t end = length < position + 1 ? length : position + 1;
  int64_t begin = a.window > 0 && position - a.window + 1 > 0 ? position - a.window + 1 : 0;
  const int64_t most = a.pages_each * a.page;
  if (end > most) end = most;
  if (a.splits > 1) {
    begin = begin > split * kSplitKeys ? begin : split * kSplitKeys;
    end = end < (split + 1) * kSplitKeys ? end : (split + 1) * kSplitKeys;
  }

  float* q = memory;                        // [group, d]
  float* scores = q + group * d;            // [group, kKeys]
  float* largest = scores + group * kKeys;  // [group]: so far
  float* sums = largest + group;            // [group]
  float* factors = sums + group;            // [group]: of what is summed already
  int64_t* rows = reinterpret_cast<int64_t*>(factors + (group + group % 2 + 1) / 2 * 2);  // [kKeys]: of the caches
  for (int i = tid; i < heads * d; i += kKeys) q[i] = a.queries[(t * a.n_head + first_head) * d + i] * a.scale;
  if (tid < heads) largest[tid] = -INFINITY, sums[tid] = 0;
  constexpr int kColumns = 4;  // of a thread: up to 512
  float context[kMaxGroup][kColumns];
#pragma unroll
  for (int h = 0; h < kMaxGroup; ++h) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) context[h][c] = 0;
  }
  __syncthreads();

  const auto *k_cache = static_cast<const Block*>(a.k_cache), *v_cache = static_cast<const Block*>(a.v_cache);
  constexpr int kElems = static_cast<int>(Block::kElems);
  for (int64_t j0 = begin; j0 < end; j0 += kKeys) {
    const int64_t j = j0 + tid;
    const int count = static_cast<int>(end - j0 < kKeys ? end - j0 : kKeys);
    int64_t row = -1;
    if (j < end) {
      const int64_t id = a.page_table[sequence * a.pages_each + j / a.page];
      if (id >= 0 && id < a.pages) row = (id * a.n_kv_head + kv_head) * a.page + j % a.page;
    }
    rows[tid] = row;
    float s[kMaxGroup];
#pragma unroll
    for (int h = 0; h < kMaxGroup; ++h) s[h] = 0;
    if (row >= 0) {
      const Row<Block> key{k_cache + row * (d / kElems)};
      for (int e = 0; e < d; e += 8) {
        float k[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) k[i] = e + i < d ? key.at(e + i) : 0.0f;
#pragma unroll
        for (int h = 0; h < kMaxGroup; ++h) {
          if (h >= heads) break;
#pragma unroll
          for (int i = 0; i < 8; ++i) s[h] += e + i < d ? q[h * d + e + i] * k[i] : 0.0f;
        }
      }
    }
#pragma unroll
    for (int h = 0; h < kMaxGroup; ++h) {
      if (h >= heads) break;
      float v = s[h];
      if (a.softcap > 0) v = a.softcap * tanhf(v / a.softcap);
      if (a.alibi) v += slope_of(a, first_head + h) * static_cast<float>(j - position);
      scores[h * kKeys + tid] = j < end ? v : -INFINITY;
    }
    __syncthreads();
    // A warp a head: the new largest, the weights, their sum.
    for (int h = tid / 32; h < heads; h += kKeys / 32) {
      float m = largest[h];
      for (int i = tid % 32; i < count; i += 32) m = fmaxf(m, scores[h * kKeys + i]);
      m = warp_max(m);
      float sum = 0;
      for (int i = tid % 32; i < kKeys; i += 32) {
        const float p = i < count ? expf(scores[h * kKeys + i] - m) : 0.0f;
        scores[h * kKeys + i] = p;
        sum += p;
      }
      sum = warp_sum(sum);
      if (tid % 32 == 0) {
        const float factor = largest[h] == -INFINITY ? 0.0f : expf(largest[h] - m);
        factors[h] = factor;
        sums[h] = sums[h] * factor + sum;
        largest[h] = m;
      }
    }
    __syncthreads();
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int column = tid + c * kKeys;
      if (column >= d) break;
#pragma unroll
      for (int h = 0; h < kMaxGroup; ++h) {
        if (h < heads) context[h][c] *= factors[h];
      }
      for (int i = 0; i < count; ++i) {
        const int64_t at = rows[i];
        const float v = at >= 0 ? Row<Block>{v_cache + at * (d / kElems)}.at(column) : 0.0f;
#pragma unroll
        for (int h = 0; h < kMaxGroup; ++h) {
          if (h < heads) context[h][c] += scores[h * kKeys + i] * v;
        }
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int h = 0; h < kMaxGroup; ++h) {
    if (h >= heads) break;
    const int64_t head = first_head + h;
    if (a.splits > 1) {
      float* to = a.partial + ((t * a.n_head + head) * a.splits + split) * (d + 2);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        if (tid + c * kKeys < d) to[tid + c * kKeys] = context[h][c];
      }
      if (tid == 0) to[d] = largest[h], to[d + 1] = sums[h];
      continue;
    }
    float sum = sums[h];
    float factor = 1;
    if (a.sinks != nullptr && sum > 0) {
      const float m = fmaxf(largest[h], a.sinks[head]);
      factor = expf(largest[h] - m);
      sum = sum * factor + expf(a.sinks[head] - m);
    }
    const float inverse = sum > 0 ? factor / sum : 0.0f;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (tid + c * kKeys < d) a.context[(t * a.n_head + head) * d + tid + c * kKeys] = context[h][c] * inverse;
    }
  }
}

/// The splits of one head of one token, in order.
__global__ void merge(AttentionArgs a) {
  let_next_start();
  wait_for_previous();
  const int64_t head = blockIdx.x, t = blockIdx.y;
  if (t >= rows_of(a.tokens)) return;
  const int64_t sequence = a.sequence_ids[t];
  const int64_t length = sequence >= 0 && sequence < a.sequences ? a.kv_lengths[sequence] : 0;
  const int64_t used = (length + kSplitKeys - 1) / kSplitKeys;
  const int n = static_cast<int>(used < a.splits ? used : a.splits);
  const float* parts = a.partial + (t * a.n_head + head) * a.splits * (a.d + 2);
  const auto sum_of = [&](int i) { return parts[static_cast<int64_t>(i) * (a.d + 2) + a.d + 1]; };
  const auto largest_of = [&](int i) { return parts[static_cast<int64_t>(i) * (a.d + 2) + a.d]; };
  float m = a.sinks != nullptr ? a.sinks[head] : -INFINITY;
  for (int i = 0; i < n; ++i) {
    if (sum_of(i) > 0) m = fmaxf(m, largest_of(i));
  }
  float sum = a.sinks != nullptr ? expf(a.sinks[head] - m) : 0.0f;
  for (int i = 0; i < n; ++i) {
    if (sum_of(i) > 0) sum += sum_of(i) * expf(largest_of(i) - m);
  }
  for (int column = threadIdx.x; column < a.d; column += blockDim.x) {
    float v = 0;
    for (int i = 0; i < n; ++i) {
      if (sum_of(i) > 0) v += parts[static_cast<int64_t>(i) * (a.d + 2) + column] * expf(largest_of(i) - m);
    }
    a.context[(t * a.n_head + head) * a.d + column] = sum > 0 ? v / sum : 0.0f;
  }
}

}  // namespace

int attention_splits(int64_t tokens, int64_t most_keys) {
  return tokens > 32 ? 1 : static_cast<int>((most_keys + kSplitKeys - 1) / kSplitKeys);
}
size_t attention_workspace(int64_t tokens, int n_head, int d, int splits) {
  const auto rows = static_cast<size_t>(tokens * n_head);
  const size_t queries = (rows * static_cast<size_t>(d) * sizeof(float) + 255) / 256 * 256;
  return queries + (splits > 1 ? rows * static_cast<size_t>(splits) * static_cast<size_t>(d + 2) * sizeof(float) : 0);
}
bool attention_reads(uint32_t cache_type, int d) {
  return with_written_block(cache_type, [](auto) {}) && d <= 512;
}

void launch_append(const AttentionArgs& a, cudaStream_t stream) {
  const int64_t n = a.tokens.capacity * (a.n_head + 2 * a.n_kv_head);
  const int warps = 4;
  const int64_t blocks = (n + warps - 1) / warps;
  with_written_block(a.cache_type, [&]<typename Block>(Block) {
    launch_dependent(append<Block>, dim3(static_cast<unsigned>(blocks < 65536 ? blocks : 65536)), dim3(warps * 32),
                     static_cast<size_t>(warps * a.d) * sizeof(float), stream, a);
  });
}

void launch_attend(const AttentionArgs& a, cudaStream_t stream) {
  const int each = a.n_head / a.n_kv_head, group = each < kMaxGroup ? each : kMaxGroup;
  const int n_groups = (each + group - 1) / group;
  const size_t shared =
      static_cast<size_t>(group * a.d + group * kKeys + 4 * group + 8) * sizeof(float) + kKeys * sizeof(int64_t);
  const dim3 grid(static_cast<unsigned>(a.n_kv_head * n_groups), static_cast<unsigned>(a.tokens.capacity),
                  static_cast<unsigned>(a.splits));
  with_written_block(a.cache_type, [&]<typename Block>(Block) {
    if (shared > 48 << 10) {
      cudaFuncSetAttribute(attend<Block>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    }
    launch_dependent(attend<Block>, grid, dim3(kKeys), shared, stream, a, group);
  });
  if (a.splits > 1) {
    launch_dependent(merge, dim3(static_cast<unsigned>(a.n_head), static_cast<unsigned>(a.tokens.capacity)), dim3(128),
                     0, stream, a);
  }
}

}  // namespace weft::cuda
