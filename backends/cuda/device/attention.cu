// In f32 arithmetic: a block takes one token, one query head (few keys: bound by latency) or up to four of one kv head
// (many: bound by memory), and one split of the keys. Groups of lanes take keys by turns: each lane eight columns (or
// 16) of a key and its value, and of the queries, in registers; each group keeps its own largest score and sums, which
// are put together at the end. The block that is last done with a head puts its splits together. Many tokens run the
// same way. decode_attention.cu and flash_attention.cu are the 16-bit ones.
#include "backends/cuda/device/attention.h"

#include "backends/cuda/device/heads.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/pdl.cuh"
#include "backends/cuda/device/scores.cuh"

namespace weft::cuda {
namespace {

constexpr int kWarps = 8;     // of a block
constexpr int kAtOnce = 4;    // keys of a group of lanes whose loads are under way together
constexpr int kMaxGroup = 4;  // query heads of a kv head that share a pass
constexpr int kFewKeys = 1024;

/// Elements [e, e + 8) of a cached row of d > e, as they are stored; past d, zeros.
template <typename Block>
struct Eight {
  Block v[8] = {};
  __device__ void load(const Block* row, int e, int d) {
    if (d % 8 == 0) {
#pragma unroll
      for (int i = 0; i < static_cast<int>(sizeof(v) / 16); ++i) {
        reinterpret_cast<uint4*>(v)[i] = reinterpret_cast<const uint4*>(row + e)[i];
      }
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (e + i < d) v[i] = row[e + i];
      }
    }
  }
  __device__ void decode(float (&x)[8]) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i].decode(x + i);
  }
};
template <>
struct Eight<EncodedQ8_0> {
  uint16_t v[4] = {}, d = 0;
  __device__ void load(const EncodedQ8_0* row, int e, int) {  // d: a multiple of 32
    const auto* from = reinterpret_cast<const uint16_t*>(row[e / 32].qs + e % 32);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = from[i];
    d = row[e / 32].d;
  }
  __device__ void decode(float (&x)[8]) const {
    const float scale = __half2float(__ushort_as_half(d));
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = scale * static_cast<float>(static_cast<int8_t>(v[i / 2] >> i % 2 * 8));
  }
};

constexpr int kAppendWarps = 8;

/// Blocks: [token, kAppendWarps of its heads], a warp a head.
template <typename Block>
__global__ void __launch_bounds__(kAppendWarps * 32) append(const __grid_constant__ AttentionArgs a) {
  extern __shared__ float memory[];  // heads
  __shared__ float2 rotations[kMaxHead / 2];
  let_next_start();
  wait_for_previous();
  const int64_t t = blockIdx.x;
  if (t >= rows_of(a.tokens)) return;
  if (a.rotary != 0) {
    make_rotations(a, t, rotations);
    __syncthreads();
  }
  const int warp = static_cast<int>(threadIdx.x) / 32, head = static_cast<int>(blockIdx.y) * kAppendWarps + warp;
  if (head >= a.n_head + 2 * a.n_kv_head) return;
  float* row = memory + warp * a.d;
  make_head(a, t, head, heads_of(a, t) + static_cast<int64_t>(head) * a.d, row, [&](int p) { return rotations[p]; });
  const int kv = head - a.n_head;
  if (kv < 0) {
    float* to = a.queries + (t * a.n_head + head) * a.d;
    for (int e = threadIdx.x % 32; e < a.d; e += 32) to[e] = row[e];
  } else {
    keep_head<Block>(a, t, kv % a.n_kv_head, kv < a.n_kv_head, row);
  }
}

/// What of the keys a block takes.
struct Span {
  int64_t begin, end;         // its keys
  int first_split, n_splits;  // that have keys
  bool writes;                // the key and value of the one token
};

/// G: query heads that this block serves, from first_head on; kPieces: runs of eight columns a lane has.
template <int G, typename Block, int kPieces>
__device__ void attend_heads(const AttentionArgs& a, const Span& span, int first_head, int heads) {
  extern __shared__ float memory[];
  __shared__ Seen warps_saw[kWarps][G];
  __shared__ float warp_factors[kWarps][G];
  __shared__ Seen block_saw[G];
  __shared__ bool is_last;
  const int d = a.d, tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const int kv_head = first_head / (a.n_head / a.n_kv_head), n_splits = span.n_splits, first_split = span.first_split;
  const int64_t t = blockIdx.y, split = blockIdx.z, begin = span.begin, end = span.end, sequence = a.sequence_ids[t];
  const int64_t position = a.positions[t];
  const bool counts = split >= first_split && split < first_split + n_splits, writes = span.writes;
  const auto* k_cache = static_cast<const Block*>(a.k_cache);
  const auto* v_cache = static_cast<const Block*>(a.v_cache);
  const int blocks = d / static_cast<int>(Block::kElems);  // of a row
  const auto page = static_cast<unsigned>(a.page);         // 32 bits: a division of 64 costs more than a key
  const int32_t* table = a.page_table + sequence * a.pages_each;
  const auto row_of = [&](int64_t j) -> int64_t {
    if (j >= end) return -1;
    const unsigned in_table = static_cast<unsigned>(j) / page;
    const int64_t id = table[in_table];
    return id >= 0 && id < a.pages ? (id * a.n_kv_head + kv_head) * page + (static_cast<unsigned>(j) - in_table * page)
                                   : -1;
  };
  // Keys of steps before this one may be asked for already.
  if (a.appends) {
    for (int64_t j = begin + tid; j < end; j += kWarps * 32) {
      if (const int64_t row = row_of(j); row >= 0) {
        for (int b = 0; b < blocks * static_cast<int>(sizeof(Block)); b += 128) {
          asm volatile("prefetch.global.L2 [%0];" ::"l"(reinterpret_cast<const char*>(k_cache + row * blocks) + b));
          asm volatile("prefetch.global.L2 [%0];" ::"l"(reinterpret_cast<const char*>(v_cache + row * blocks) + b));
        }
      }
    }
  }
  wait_for_previous();

  // Queries, and with a single token its own key and value.
  const int width = (d + 7) / 8 * 8;
  float* q = memory;  // [G, width], zeros past d and past the heads
  if (a.appends) {
    float* own = memory + G * width;  // [2, d]
    for (int i = warp; i < G + 2; i += kWarps) {
      if (i < heads) make_head(a, t, first_head + i, q + i * width);
      if (i < G || !writes) continue;
      const bool is_k = i == G;
      make_head(a, t, a.n_head + (is_k ? 0 : a.n_kv_head) + kv_head, own + (is_k ? 0 : d));
      keep_head<Block>(a, t, kv_head, is_k, own + (is_k ? 0 : d));
    }
  } else {
    for (int i = tid; i < heads * d; i += kWarps * 32) {
      q[i / d * width + i % d] = a.queries[(t * a.n_head + first_head) * d + i];
    }
  }
  __syncthreads();
  if (!counts) return;
  int lanes = 1;  // a key
  while (lanes * kPieces * 8 < d) lanes *= 2;
  const int own_column = lane % lanes * 8;
  float query[G][kPieces][8];
#pragma unroll
  for (int h = 0; h < G; ++h) {
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int e = own_column + p * lanes * 8 + i;
        query[h][p][i] = h < heads && e < d ? q[h * width + e] * a.scale : 0.0f;
      }
    }
  }

  // Read where there is no key: it counts for nothing, and holds no garbage.
  const int64_t visible = row_of(begin) >= 0 ? row_of(begin) : 0;
  const bool adjusts = a.softcap > 0 || a.alibi;
  float slopes[G] = {};
#pragma unroll
  for (int h = 0; h < G; ++h) slopes[h] = a.alibi ? slope_of(a, first_head + h) : 0.0f;
  Seen seen[G];
  float context[G][kPieces][8] = {};
  const int groups = kWarps * 32 / lanes;
  for (int64_t j0 = begin + tid / lanes; j0 - tid / lanes < end; j0 += static_cast<int64_t>(groups) * kAtOnce) {
    Eight<Block> keys[kAtOnce][kPieces], values[kAtOnce][kPieces];
    bool here[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int64_t row = row_of(j0 + u * groups);
      here[u] = row >= 0;
#pragma unroll
      for (int p = 0; p < kPieces; ++p) {
        const int column = own_column + p * lanes * 8, e = column < d ? column : 0;
        keys[u][p].load(k_cache + (here[u] ? row : visible) * blocks, e, d);
        values[u][p].load(v_cache + (here[u] ? row : visible) * blocks, e, d);
      }
    }
    float scores[kAtOnce][G] = {};
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
#pragma unroll
      for (int p = 0; p < kPieces; ++p) {
        float x[8];
        keys[u][p].decode(x);
#pragma unroll
        for (int h = 0; h < G; ++h) {
#pragma unroll
          for (int i = 0; i < 8; ++i) scores[u][h] += x[i] * query[h][p][i];
        }
      }
    }
    for (int step = lanes / 2; step > 0; step /= 2) {
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
#pragma unroll
        for (int h = 0; h < G; ++h) scores[u][h] += __shfl_xor_sync(0xFFFFFFFFu, scores[u][h], step);
      }
    }
#pragma unroll
    for (int h = 0; h < G; ++h) {
      float m = seen[h].largest;
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        const int64_t j = j0 + u * groups;
        float v = here[u] ? scores[u][h] : 0.0f;
        if (adjusts) v = adjusted(v, a.softcap, slopes[h] * static_cast<float>(j - position));
        scores[u][h] = j < end ? v * kLog2E : -INFINITY;
        m = fmaxf(m, scores[u][h]);
      }
      const float base = m == -INFINITY ? 0.0f : m;
      const float factor = exp2f(seen[h].largest - base);
      seen[h].sum *= factor;
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        scores[u][h] = exp2f(scores[u][h] - base);
        seen[h].sum += scores[u][h];
      }
      seen[h].largest = m;
#pragma unroll
      for (int p = 0; p < kPieces; ++p) {
#pragma unroll
        for (int i = 0; i < 8; ++i) context[h][p][i] *= factor;
      }
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
#pragma unroll
      for (int p = 0; p < kPieces; ++p) {
        float x[8];
        values[u][p].decode(x);
#pragma unroll
        for (int h = 0; h < G; ++h) {
#pragma unroll
          for (int i = 0; i < 8; ++i) context[h][p][i] += (here[u] ? scores[u][h] : 0.0f) * x[i];
        }
      }
    }
  }

  // The groups of a warp, then the warps: parts [warp, G, width] where the queries were.
  for (int step = lanes; step < 32; step *= 2) {
#pragma unroll
    for (int h = 0; h < G; ++h) {
      const Seen other{__shfl_xor_sync(0xFFFFFFFFu, seen[h].largest, step),
                       __shfl_xor_sync(0xFFFFFFFFu, seen[h].sum, step)};
      float own_factor, other_factor;
      seen[h].join(other, own_factor, other_factor);
#pragma unroll
      for (int p = 0; p < kPieces; ++p) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float v = __shfl_xor_sync(0xFFFFFFFFu, context[h][p][i], step);
          context[h][p][i] = context[h][p][i] * own_factor + v * other_factor;
        }
      }
    }
  }
  __syncthreads();
  if (lane < lanes) {
#pragma unroll
    for (int h = 0; h < G; ++h) {
      if (lane == 0) warps_saw[warp][h] = seen[h];
#pragma unroll
      for (int p = 0; p < kPieces; ++p) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int e = own_column + p * lanes * 8 + i;
          if (e < width) memory[(warp * G + h) * width + e] = context[h][p][i];
        }
      }
    }
  }
  __syncthreads();

  if (tid < G) {
    Seen all;
    for (int w = 0; w < kWarps; ++w) {
      float own_factor, other_factor;
      all.join(warps_saw[w][tid], own_factor, other_factor);
    }
    for (int w = 0; w < kWarps; ++w) {
      const float m = warps_saw[w][tid].largest;
      warp_factors[w][tid] = m == -INFINITY ? 0.0f : exp2f(m - all.largest);
    }
    block_saw[tid] = all;
  }
  __syncthreads();

  const auto put = [&](int64_t head, int c, float v) { a.context[(t * a.n_head + head) * d + c] = v; };
  float* parts = a.partial + (t * a.n_head + first_head) * a.splits * (d + 2);  // [head, split, d + 2]
  for (int h = 0; h < heads; ++h) {
    for (int c = tid; c < d; c += kWarps * 32) {
      float v = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) v += memory[(w * G + h) * width + c] * warp_factors[w][h];
      if (n_splits == 1) {
        put(first_head + h, c, v * inverse_sum(a, first_head + h, block_saw[h]));
        continue;
      }
      float* to = parts + (h * a.splits + split) * (d + 2);
      to[c] = v;
      if (c == 0) to[d] = block_saw[h].largest, to[d + 1] = block_saw[h].sum;
    }
  }
  if (n_splits == 1) return;

  __threadfence();
  __syncthreads();
  if (tid == 0) {
    unsigned* arrived = a.arrivals + t * a.n_head + first_head;
    is_last = atomicInc(arrived, static_cast<unsigned>(n_splits) - 1) == static_cast<unsigned>(n_splits) - 1;
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  for (int i = tid; i < heads * d; i += kWarps * 32) {
    const int h = i / d, c = i % d;
    const float* from = parts + (h * a.splits + first_split) * (d + 2);
    Seen all;
    float v = 0;
#pragma unroll 8
    for (int n = 0; n < n_splits; ++n, from += d + 2) {
      float own_factor, other_factor;
      all.join({__ldcg(from + d), __ldcg(from + d + 1)}, own_factor, other_factor);
      v = v * own_factor + __ldcg(from + c) * other_factor;
    }
    put(first_head + h, c, v * inverse_sum(a, first_head + h, all));
  }
}

/// Blocks: [head, token, split]. G: the most heads that share a block, of a kv head.
template <int G, typename Block, int kPieces>
__global__ void __launch_bounds__(kWarps * 32, 2) attend(const __grid_constant__ AttentionArgs a) {
  let_next_start();
  const int64_t t = blockIdx.y, split = blockIdx.z;
  // Positions and page tables are inputs of the step: nothing of the step before this kernel writes them.
  if (t >= rows_of(a.tokens)) return wait_for_previous();
  const int64_t sequence = a.sequence_ids[t];
  const bool known = sequence >= 0 && sequence < a.sequences;
  const int64_t position = a.positions[t], length = known ? a.kv_lengths[sequence] : 0;
  // Visible: [begin, end), of which this split takes a part.
  const int64_t most = a.pages_each * a.page;
  int64_t end = length < position + 1 ? length : position + 1;
  if (end > most) end = most;
  int64_t begin = a.window > 0 && position - a.window + 1 > 0 ? position - a.window + 1 : 0;
  const int each = a.n_head / a.n_kv_head, in_group = static_cast<int>(blockIdx.x) % each;
  const bool few = G > 1 && end - begin <= kFewKeys;
  if (!few && in_group % G != 0) return wait_for_previous();
  Span span{begin, end, 0, 1, a.appends};
  if (a.splits > 1) {
    span.first_split = begin < end ? static_cast<int>(begin / kSplitKeys) : 0;
    span.n_splits = begin < end ? static_cast<int>((end - 1) / kSplitKeys) - span.first_split + 1 : 1;
    const int64_t at = position < 0 ? 0 : position / kSplitKeys;
    span.writes = span.writes && split == (at < a.splits ? at : a.splits - 1);
    span.begin = begin > split * kSplitKeys ? begin : split * kSplitKeys;
    span.end = end < (split + 1) * kSplitKeys ? end : (split + 1) * kSplitKeys;
    const bool counts = split >= span.first_split && split < span.first_split + span.n_splits;
    if (!counts && !span.writes) return wait_for_previous();
  }
  const int first_head = static_cast<int>(blockIdx.x);
  if (few) attend_heads<1, Block, kPieces>(a, span, first_head, 1);
  else attend_heads<G, Block, kPieces>(a, span, first_head, each - in_group < G ? each - in_group : G);
}

}  // namespace

int attention_splits(int64_t tokens, int n_head, int64_t most_keys) {
  const bool counted = tokens * n_head <= kArrivals;
  return tokens > kAttendTokens || !counted ? 1 : static_cast<int>((most_keys + kSplitKeys - 1) / kSplitKeys);
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
  const int heads = a.n_head + 2 * a.n_kv_head;
  const dim3 grid(static_cast<unsigned>(a.tokens.capacity),
                  static_cast<unsigned>((heads + kAppendWarps - 1) / kAppendWarps));
  with_written_block(a.cache_type, [&]<typename Block>(Block) {
    launch_dependent(append<Block>, grid, dim3(kAppendWarps * 32),
                     static_cast<size_t>(kAppendWarps * a.d) * sizeof(float), stream, a);
  });
}

template <int G, int kPieces>
void launch_group(const AttentionArgs& a, cudaStream_t stream) {
  const int width = (a.d + 7) / 8 * 8;
  const size_t shared = static_cast<size_t>(kWarps * G * width) * sizeof(float);
  const dim3 grid(static_cast<unsigned>(a.n_head), static_cast<unsigned>(a.tokens.capacity),
                  static_cast<unsigned>(a.splits));
  with_written_block(a.cache_type, [&]<typename Block>(Block) {
    launch_dependent(attend<G, Block, kPieces>, grid, dim3(kWarps * 32), shared, stream, a);
  });
}

void launch_attend(const AttentionArgs& args, cudaStream_t stream) {
  AttentionArgs a = args;
  a.appends = a.tokens.capacity == 1;
  if (!a.appends) launch_append(a, stream);
  const int each = a.n_head / a.n_kv_head;
  if (a.d > 256) launch_group<1, 2>(a, stream);
  else if (each == 1) launch_group<1, 1>(a, stream);
  else if (each == 2) launch_group<2, 1>(a, stream);
  else launch_group<kMaxGroup, 1>(a, stream);
}

}  // namespace weft::cuda
