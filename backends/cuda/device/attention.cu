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
constexpr int kMaxGroup = 8;   // query heads of a kv head that share a pass
constexpr int kMaxHead = 512;  // d

/// Elements [e, e + 8) of a cached row, zeros past d.
template <typename Block>
__device__ void eight(const Block* row, int e, int d, float (&v)[8]) {
  if constexpr (Block::kElems > 1) {  // q8_0: d is a multiple of 32
    const float scale = __half2float(__ushort_as_half(row[e / 32].d));
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = scale * static_cast<float>(row[e / 32].qs[e % 32 + i]);
  } else if (sizeof(Block) == 2 && d % 8 == 0) {
    const uint4 bits = *reinterpret_cast<const uint4*>(row + e);
    const auto* blocks = reinterpret_cast<const Block*>(&bits);
#pragma unroll
    for (int i = 0; i < 8; ++i) blocks[i].decode(v + i);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      v[i] = 0;
      if (e + i < d) row[e + i].decode(v + i);
    }
  }
}

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

/// G: query heads of the kv head that this block serves.
template <int G, typename Block>
__global__ void __launch_bounds__(kKeys) attend(AttentionArgs a) {
  extern __shared__ float memory[];
  let_next_start();
  wait_for_previous();
  const int d = a.d, tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const int each = a.n_head / a.n_kv_head, n_groups = (each + G - 1) / G;
  const int kv_head = static_cast<int>(blockIdx.x) / n_groups, part = static_cast<int>(blockIdx.x) % n_groups;
  const int first_head = kv_head * each + part * G, heads = each - part * G < G ? each - part * G : G;
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
    if (begin >= end) {  // merge() must know
      if (tid < heads) a.partial[((t * a.n_head + first_head + tid) * a.splits + split) * (d + 2) + d + 1] = 0;
      return;
    }
  }

  const int width = (d + 7) / 8 * 8;
  float* q = memory;                 // [G, width], zeros past d and past the heads
  float* scores = q + G * width;     // [G, kKeys]
  float* sums = scores + G * kKeys;  // [G, width]: of a warp's columns, at the end
  __shared__ float largest[G], weight_sums[G], factors[G];
  __shared__ int64_t rows[kKeys];  // of the caches
  for (int i = tid; i < G * width; i += kKeys) {
    const int h = i / width, e = i % width;
    q[i] = h < heads && e < d ? a.queries[(t * a.n_head + first_head + h) * d + e] * a.scale : 0.0f;
  }
  if (tid < G) largest[tid] = -INFINITY, weight_sums[tid] = 0;
  // A value row is read by `lanes` threads, 8 columns each; so many rows at once.
  const int lanes = width / 8, at_once = kKeys / lanes > 0 ? kKeys / lanes : 1, own_row = tid / lanes;
  const int own_column = tid % lanes * 8;
  const bool reads = own_row < at_once;
  float context[G][8] = {};
  const auto* k_cache = static_cast<const Block*>(a.k_cache);
  const auto* v_cache = static_cast<const Block*>(a.v_cache);
  constexpr int kElems = static_cast<int>(Block::kElems);
  __syncthreads();

  for (int64_t j0 = begin; j0 < end; j0 += kKeys) {
    const int64_t j = j0 + tid;
    const int count = static_cast<int>(end - j0 < kKeys ? end - j0 : kKeys);
    int64_t row = -1;
    if (j < end) {
      const int64_t id = a.page_table[sequence * a.pages_each + j / a.page];
      if (id >= 0 && id < a.pages) row = (id * a.n_kv_head + kv_head) * a.page + j % a.page;
    }
    rows[tid] = row;
    float s[G] = {};
    if (row >= 0) {
      const Block* key = k_cache + row * (d / kElems);
#pragma unroll 4
      for (int e = 0; e < width; e += 8) {
        float k[8];
        eight(key, e, d, k);
#pragma unroll
        for (int h = 0; h < G; ++h) {
          const float4 x = *reinterpret_cast<const float4*>(q + h * width + e);
          const float4 y = *reinterpret_cast<const float4*>(q + h * width + e + 4);
          s[h] += x.x * k[0] + x.y * k[1] + x.z * k[2] + x.w * k[3] + y.x * k[4] + y.y * k[5] + y.z * k[6] + y.w * k[7];
        }
      }
    }
#pragma unroll
    for (int h = 0; h < G; ++h) {
      float v = s[h];
      if (a.softcap > 0) v = a.softcap * tanhf(v / a.softcap);
      if (a.alibi) v += slope_of(a, first_head + h) * static_cast<float>(j - position);
      scores[h * kKeys + tid] = j < end ? v : -INFINITY;
    }
    __syncthreads();
    // A warp a head: the new largest, the weights, their sum.
    for (int h = warp; h < heads; h += kKeys / 32) {
      float m = largest[h];
#pragma unroll
      for (int i = 0; i < kKeys / 32; ++i) m = fmaxf(m, scores[h * kKeys + i * 32 + lane]);
      m = warp_max(m);
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kKeys / 32; ++i) {
        float& p = scores[h * kKeys + i * 32 + lane];
        p = expf(p - m);
        sum += p;
      }
      sum = warp_sum(sum);
      if (lane == 0) {
        const float factor = largest[h] == -INFINITY ? 0.0f : expf(largest[h] - m);
        factors[h] = factor;
        weight_sums[h] = weight_sums[h] * factor + sum;
        largest[h] = m;
      }
    }
    __syncthreads();
    if (reads) {
#pragma unroll
      for (int h = 0; h < G; ++h) {
        const float factor = h < heads ? factors[h] : 0.0f;
#pragma unroll
        for (int i = 0; i < 8; ++i) context[h][i] *= factor;
      }
#pragma unroll 4
      for (int i = own_row; i < count; i += at_once) {
        const int64_t at = rows[i];
        if (at < 0) continue;
        float v[8];
        eight(v_cache + at * (d / kElems), own_column, d, v);
#pragma unroll
        for (int h = 0; h < G; ++h) {
          const float p = h < heads ? scores[h * kKeys + i] : 0.0f;
#pragma unroll
          for (int c = 0; c < 8; ++c) context[h][c] += p * v[c];
        }
      }
    }
    __syncthreads();
  }

  // The rows' parts, in order.
  for (int r = 0; r < at_once; ++r) {
    if (reads && own_row == r) {
#pragma unroll
      for (int h = 0; h < G; ++h) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float& sum = sums[h * width + own_column + i];
          sum = r == 0 ? context[h][i] : sum + context[h][i];
        }
      }
    }
    __syncthreads();
  }
  for (int h = 0; h < heads; ++h) {
    const int64_t head = first_head + h;
    if (a.splits > 1) {
      float* to = a.partial + ((t * a.n_head + head) * a.splits + split) * (d + 2);
      for (int c = tid; c < d; c += kKeys) to[c] = sums[h * width + c];
      if (tid == 0) to[d] = largest[h], to[d + 1] = weight_sums[h];
      continue;
    }
    float sum = weight_sums[h], factor = 1;
    if (a.sinks != nullptr && sum > 0) {
      const float m = fmaxf(largest[h], a.sinks[head]);
      factor = expf(largest[h] - m);
      sum = sum * factor + expf(a.sinks[head] - m);
    }
    const float inverse = sum > 0 ? factor / sum : 0.0f;
    for (int c = tid; c < d; c += kKeys) a.context[(t * a.n_head + head) * d + c] = sums[h * width + c] * inverse;
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
  return with_written_block(cache_type, [](auto) {}) && d <= kMaxHead;
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

template <int G>
void launch_group(const AttentionArgs& a, cudaStream_t stream) {
  const int n_groups = (a.n_head / a.n_kv_head + G - 1) / G, width = (a.d + 7) / 8 * 8;
  const size_t shared = static_cast<size_t>(G * (2 * width + kKeys)) * sizeof(float);
  const dim3 grid(static_cast<unsigned>(a.n_kv_head * n_groups), static_cast<unsigned>(a.tokens.capacity),
                  static_cast<unsigned>(a.splits));
  with_written_block(a.cache_type, [&]<typename Block>(Block) {
    launch_dependent(attend<G, Block>, grid, dim3(kKeys), shared, stream, a);
  });
}

void launch_attend(const AttentionArgs& a, cudaStream_t stream) {
  const int each = a.n_head / a.n_kv_head;
  if (each == 1) launch_group<1>(a, stream);
  else if (each == 2) launch_group<2>(a, stream);
  else if (each <= 4) launch_group<4>(a, stream);
  else launch_group<kMaxGroup>(a, stream);
  if (a.splits > 1) {
    launch_dependent(merge, dim3(static_cast<unsigned>(a.n_head), static_cast<unsigned>(a.tokens.capacity)), dim3(128),
                     0, stream, a);
  }
}

}  // namespace weft::cuda
