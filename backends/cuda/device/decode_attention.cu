// Decoding in 16-bit arithmetic: a block takes one token, up to eight query heads of one kv head, and a part of the
// keys. A warp takes tiles of 16 keys, some of which are on their way to its own ring in shared memory: scores are the
// product [16 keys, d] [d, 8 heads], the context [d, 16 keys] [16 keys, 8 heads], both with f32 sums, softmax as it
// goes. The warps' parts are put together at the end, those of the blocks by the block that is last. Bound by memory: a
// tile of d = 128 is 8 KiB and some 310 instructions.
// Source: Dao, Haziza, Massa, Sizov, "Flash-Decoding for long-context inference", 2023 (parts of the keys); Dao,
// "FlashAttention-2", arXiv:2307.08691 (softmax as it goes).
#include "backends/cuda/device/decode_attention.h"

#include <cuda_pipeline.h>

#include "backends/cuda/device/fragments.cuh"
#include "backends/cuda/device/heads.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/mma.cuh"
#include "backends/cuda/device/pdl.cuh"
#include "backends/cuda/device/scores.cuh"

namespace weft::cuda {
namespace {

constexpr unsigned kTile = 16;      // keys of a warp at a time: rows of a product
constexpr int kHeads = 8;           // query heads of a block: columns of a product
constexpr unsigned kRound = 64;     // parts of the keys begin at multiples of so many
constexpr unsigned kFewRounds = 2;  // of a part, unless there is only one
constexpr int kWantedBlocks = 128;  // of a token: one an SM
constexpr int kMostSplits = 64;     // that are put together by one block

/// How keys and values stand in shared memory. kD: of a head.
template <int kD, typename Block>
struct Form {
  static constexpr bool kPacked = Block::kElems > 1;  // unpacked to f16 before it is multiplied
  using Element = std::conditional_t<std::is_same_v<Block, BlockBF16>, __nv_bfloat16, __half>;
  static constexpr int kRowBlocks = kD / static_cast<int>(Block::kElems);
  static constexpr int kRowBytes = kRowBlocks * static_cast<int>(sizeof(Block));
  static constexpr int kChunks = kD / 8;              // of 16 bytes, of an unpacked row
  static constexpr int kStride = 16 * (kChunks + 1);  // bytes, of unpacked rows: no two of a matrix in one bank
  static constexpr int kUnpackedBytes = kTile * kStride;
  static constexpr int kTileBytes = kPacked ? kTile * kRowBytes : kUnpackedBytes;
  static constexpr unsigned kWarps = kD > 128 ? 2 : 4;
  static constexpr unsigned kStages = kD > 96 && !kPacked ? 2 : kD > 64 ? 3 : 4;  // tiles of keys and values under way
  static constexpr int kWarpBytes = 2 * (kStages * kTileBytes + (kPacked ? kUnpackedBytes : 0));
  static_assert(kTileBytes % 16 == 0 && kTile * kChunks % 32 == 0);
};

/// Eight elements of a row for a product.
__device__ uint4 eight(const BlockF16* row, int e) { return *reinterpret_cast<const uint4*>(row + e); }
__device__ uint4 eight(const BlockBF16* row, int e) { return *reinterpret_cast<const uint4*>(row + e); }
__device__ uint4 eight(const EncodedQ8_0* row, int e) {
  const EncodedQ8_0& block = row[e / 32];
  const auto* from = reinterpret_cast<const uint16_t*>(block.qs + e % 32);
  const __half2 by = __half2half2(__ushort_as_half(block.d)), bias = __float2half2_rn(1152.0f);
  uint32_t to[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {  // a byte under the exponent of 1024 is 1024 more than itself
    const uint32_t bits = __byte_perm(from[i] ^ 0x8080u, 0x64646464u, 0x4140);
    const __half2 v = __hmul2(__hsub2(reinterpret_cast<const __half2&>(bits), bias), by);
    to[i] = reinterpret_cast<const uint32_t&>(v);
  }
  return {to[0], to[1], to[2], to[3]};
}

/// 16 rows that stand together, by a warp; there when the pipeline has been waited for. Null: zeros.
template <typename F>
__device__ void copy_tile(unsigned char* to, const unsigned char* from) {
  if (from == nullptr) {
#pragma unroll 1
    for (unsigned i = threadIdx.x % 32; i < F::kTileBytes / 16; i += 32) reinterpret_cast<uint4*>(to)[i] = uint4{};
    return;
  }
  constexpr unsigned kCopies = kTile * F::kRowBytes / 16, kLanes = 32;
  const unsigned lane = threadIdx.x % 32;
  /// Of the i-th 16 bytes: one more is left free after each row.
  const auto place = [](unsigned i) { return F::kPacked ? i : i + i / F::kChunks; };
  const unsigned char* source = from + 16 * lane;
  unsigned char* start = to + 16 * place(lane);
#pragma unroll
  for (unsigned n = 0; n < kCopies; n += kLanes) {
    if (n + kLanes > kCopies && n + lane >= kCopies) break;
    // Of 32 lanes that fill whole rows, all places are as far on.
    unsigned char* there = kLanes % F::kChunks == 0 ? start + 16 * place(n) : to + 16 * place(n + lane);
    __pipeline_memcpy_async(there, source + 16 * n, 16);
  }
}

template <typename F, typename Block>
__device__ void unpack_tile(unsigned char* to, const Block* from) {
#pragma unroll 4
  for (unsigned i = threadIdx.x % 32; i < kTile * F::kChunks; i += 32) {
    const unsigned key = i / F::kChunks, chunk = i % F::kChunks;
    *reinterpret_cast<uint4*>(to + key * F::kStride + 16 * chunk) = eight(from + key * F::kRowBlocks, chunk * 8);
  }
}

/// What of the keys a block takes: of [first, last), a multiple of kRound before the last part, those from `begin` on.
struct Part {
  unsigned begin, first, last;
  unsigned n_splits;  // parts with keys, or one of none
};

__device__ Part part_of(const AttentionArgs& a, int64_t t, unsigned split) {
  const int64_t sequence = a.sequence_ids[t], position = a.positions[t], most = a.pages_each * a.page;
  int64_t end = sequence >= 0 && sequence < a.sequences ? a.kv_lengths[sequence] : 0;
  if (end > position + 1) end = position + 1;
  if (end > most) end = most;
  const int64_t begin = a.window > 0 && position - a.window + 1 > 0 ? position - a.window + 1 : 0;
  if (begin >= end) return {0, 0, 0, 1};
  // From what is visible alone, so that neither the plan nor other tokens change the result.
  const auto first = static_cast<unsigned>(begin) / kRound;
  const unsigned rounds = (static_cast<unsigned>(end) + kRound - 1) / kRound - first;
  const unsigned fit = (rounds + kFewRounds - 1) / kFewRounds, splits = static_cast<unsigned>(a.splits);
  const unsigned n = fit < splits ? fit : splits, each = (rounds + n - 1) / n;
  const unsigned own = (first + split * each) * kRound, next = own + each * kRound;
  const auto last = static_cast<unsigned>(end);
  return {static_cast<unsigned>(begin), own, next < last ? next : last, (rounds + each - 1) / each};
}

/// Four columns of a head's weighted values, and of which keys.
struct Gathered {
  Seen seen;
  float4 v = {};
  __device__ void join(const Seen& other, const float4& x) {
    float by, other_by;
    seen.join(other, by, other_by);
    v.x = v.x * by + x.x * other_by, v.y = v.y * by + x.y * other_by;
    v.z = v.z * by + x.z * other_by, v.w = v.w * by + x.w * other_by;
  }
};

/// Key or value head `kv_head` of token t, as a warp has it made, by way of `row` [kD]: to `stored`, and to the cache
/// if `keeps`.
template <int kD, typename Block>
__device__ void keep(const AttentionArgs& a, const WarpHead<kD>& head, float* row, Block* stored, Block* kept) {
  constexpr unsigned kElems = Block::kElems;
  head.write(a, [&](unsigned i, float v) { row[i] = v; });
  __syncwarp();
#pragma unroll
  for (unsigned b = threadIdx.x % 32; b < kD / kElems; b += 32) {
    Block block;
    block.encode(row + b * kElems);
    stored[b] = block;
    if (kept != nullptr) kept[b] = block;
  }
}

/// The same of a token before this one in its sequence, which is rare. All who make it write the same bits.
template <int kD, typename Block>
__device__ __noinline__ void keep_mate(const AttentionArgs& a, int64_t t, int kv_head, bool is_k, float* row,
                                       Block* stored) {
  const int number = a.n_head + (is_k ? 0 : a.n_kv_head) + kv_head;
  typename WarpHead<kD>::Rotations rotations;
  WarpHead<kD>::rotations_of(a, t, rotations);
  WarpHead<kD> head;
  head.read(a, heads_of(a, t) + static_cast<int64_t>(number) * kD);
  head.make(a, t, number, rotations);
  keep<kD, Block>(a, head, row, stored, kept_row<Block>(a, t, kv_head, is_k));
}

/// Blocks: [kv head and eight of its query heads, token, part of the keys].
template <int kD, typename Block>
__global__ void __launch_bounds__(Form<kD, Block>::kWarps * 32, 2) decode(const __grid_constant__ AttentionArgs a) {
  using F = Form<kD, Block>;
  using Element = typename F::Element;
  constexpr unsigned kStep = F::kWarps * kTile;
  extern __shared__ __align__(16) unsigned char memory[];    // rings, then the warps' sums of values
  __shared__ __align__(16) Element queries[kHeads][kD + 8];  // no two heads in one bank
  __shared__ __align__(16) float own[2][kD];                 // the key and value of the one token
  __shared__ __align__(16) Block stored[2][F::kRowBlocks];   // the same as they are cached
  __shared__ Seen warps_saw[F::kWarps][kHeads];
  __shared__ bool is_last;
  const int64_t t = blockIdx.y;
  // Positions and page tables are inputs of the step: nothing of the step before this kernel writes them.
  if (t >= rows_of(a.tokens)) return begin_after_previous();
  const unsigned split = blockIdx.z;
  const Part part = part_of(a, t, split);
  if (split >= part.n_splits) return begin_after_previous();
  const unsigned tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const int each = a.n_head / a.n_kv_head, groups = (each + kHeads - 1) / kHeads;
  const int kv_head = static_cast<int>(blockIdx.x) / groups, group = static_cast<int>(blockIdx.x) % groups;
  const int first_head = kv_head * each + group * kHeads;
  const int heads = each - group * kHeads < kHeads ? each - group * kHeads : kHeads;

  const auto page = static_cast<unsigned>(a.page);
  const int32_t* table = a.page_table + a.sequence_ids[t] * a.pages_each;
  /// Of key j in the caches, where its tile begins one; -1 where there is no such page.
  const auto row_of = [&](unsigned j) -> int64_t {
    if (j >= part.last) return -1;
    const unsigned in_table = j / page;
    const int64_t id = table[in_table];
    return id >= 0 && id < a.pages ? (id * a.n_kv_head + kv_head) * page + (j - in_table * page) : -1;
  };
  unsigned char* ring = memory + warp * F::kWarpBytes;
  const auto fetch = [&](unsigned stage, unsigned j, int64_t row) {
    if (j < part.last) {
      unsigned char* to = ring + stage * 2 * F::kTileBytes;
      const int64_t at = row * F::kRowBytes;
      copy_tile<F>(to, row < 0 ? nullptr : static_cast<const unsigned char*>(a.k_cache) + at);
      copy_tile<F>(to + F::kTileBytes, row < 0 ? nullptr : static_cast<const unsigned char*>(a.v_cache) + at);
    }
    __pipeline_commit();
  };

  typename WarpHead<kD>::Rotations rotations;
  if (a.appends && a.rope_factors == nullptr) WarpHead<kD>::rotations_of(a, t, rotations);
  // Keys of steps before this one may be asked for already; the token's own comes from `stored`. Those of tokens before
  // it in its sequence, which stand before it here, are rare: all blocks that read one write it.
  int64_t first_mate = t;
  if (a.appends) {
    while (first_mate > 0 && a.sequence_ids[first_mate - 1] == a.sequence_ids[t]) --first_mate;
  }
  if (!a.appends || first_mate < t) begin_after_previous();
#pragma unroll 1
  for (int64_t of = first_mate; of < t; ++of) {
    const int64_t at = a.positions[of];
    if (at < part.first || at >= part.last) continue;
    if (warp < 2) keep_mate<kD, Block>(a, of, kv_head, warp == 0, own[warp], stored[warp]);
    __threadfence();
    __syncthreads();
  }
  unsigned j = part.first + warp * kTile;
#pragma unroll
  for (unsigned s = 0; s < F::kStages; ++s) fetch(s, j + s * kStep, row_of(j + s * kStep));
  int64_t ahead = row_of(j + F::kStages * kStep);
  bool patches = false;
  const auto put_query = [&](unsigned head, unsigned i, float v) { queries[head][i] = Element(v * a.scale); };
  if (a.appends) {
    const bool has_own = split == part.n_splits - 1;
    const int n_made = heads + (has_own ? 2 : 0);
    if (has_own && part.last > part.first) {
      const int64_t slot = a.slots[t];
      const unsigned position = part.last - 1, in_table = position / page;
      patches = static_cast<int>(position) == a.positions[t] && slot >= 0 && slot < a.pages * a.page &&
                int64_t{table[in_table]} * page + (position - in_table * page) == slot;
    }
    begin_after_previous();
    if (a.rope_factors != nullptr) WarpHead<kD>::rotations_of(a, t, rotations);
    /// Of the i-th that this block makes: its number in the row of qkv.
    const auto number = [&](int i) {
      return i < heads ? first_head + i : a.n_head + (i - heads) * a.n_kv_head + kv_head;
    };
    constexpr unsigned kEach = (kHeads + 2 + F::kWarps - 1) / F::kWarps;  // of a warp: asked for together
    WarpHead<kD> made[kEach];
#pragma unroll
    for (unsigned n = 0; n < kEach; ++n) {
      const int i = static_cast<int>(warp + n * F::kWarps);
      if (i < n_made) made[n].read(a, heads_of(a, t) + static_cast<int64_t>(number(i)) * kD);
    }
    // One copy of the code: it runs once or twice, and is long.
#pragma unroll 1
    for (int i = static_cast<int>(warp); i < n_made; i += F::kWarps) {
      const int is_v = i - heads;
      made[0].make(a, t, number(i), rotations);
      if (i < heads) {
        made[0].write(a, [&](unsigned e, float v) { put_query(static_cast<unsigned>(i), e, v); });
      } else {
        keep<kD, Block>(a, made[0], own[is_v], stored[is_v],
                        group == 0 ? kept_row<Block>(a, t, kv_head, is_v == 0) : nullptr);
      }
#pragma unroll
      for (unsigned n = 1; n < kEach; ++n) made[n - 1] = made[n];
    }
  } else {
    for (unsigned i = tid; i < static_cast<unsigned>(heads) * kD; i += F::kWarps * 32) {
      put_query(i / kD, i % kD, a.queries[(t * a.n_head + first_head) * kD + i]);
    }
  }
  __syncthreads();
  uint32_t query[kD / 16][2];  // zeros past the last head
#pragma unroll
  for (int k = 0; k < kD / 16; ++k) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int head = static_cast<int>(lane / 4);
      const Element* from = &queries[head][k * 16 + i * 8 + lane % 4 * 2];
      query[k][i] = head < heads ? *reinterpret_cast<const uint32_t*>(from) : 0;
    }
  }
  const bool adjusts = a.softcap > 0 || a.alibi;
  const int own_head = static_cast<int>(lane % 4 * 2);  // and the next: of the scores and sums in this lane
  float slopes[2] = {};
  if (a.alibi) slopes[0] = slope_of(a, first_head + own_head), slopes[1] = slope_of(a, first_head + own_head + 1);
  const int position = a.positions[t];

  Seen seen[2];
  float context[kD / 16][4] = {};
  unsigned stage = 0;
#pragma unroll 1
  for (; j < part.last; j += kStep) {
    __pipeline_wait_prior(F::kStages - 1);
    __syncwarp();
    unsigned char *keys = ring + stage * 2 * F::kTileBytes, *values = keys + F::kTileBytes;
    if constexpr (F::kPacked) {
      unsigned char* to = ring + F::kStages * 2 * F::kTileBytes;
      unpack_tile<F>(to, reinterpret_cast<const Block*>(keys));
      unpack_tile<F>(to + F::kUnpackedBytes, reinterpret_cast<const Block*>(values));
      keys = to, values = to + F::kUnpackedBytes;
      __syncwarp();
    }
    if (j < part.begin || j + kTile > part.last) {
      // What was never written may be NaN.
      for (unsigned i = lane; i < kTile * F::kChunks; i += 32) {
        const unsigned key = i / F::kChunks, chunk = i % F::kChunks;
        if (j + key >= part.begin && j + key < part.last) continue;
        *reinterpret_cast<uint4*>(values + key * F::kStride + 16 * chunk) = uint4{};
      }
    }
    if (patches && j + kTile >= part.last) {
      const unsigned at = (part.last - 1 - j) * F::kStride;
      for (unsigned i = lane; i < F::kChunks; i += 32) {
        *reinterpret_cast<uint4*>(keys + at + 16 * i) = eight(stored[0], static_cast<int>(i) * 8);
        *reinterpret_cast<uint4*>(values + at + 16 * i) = eight(stored[1], static_cast<int>(i) * 8);
      }
    }
    __syncwarp();

    float scores[4] = {};  // keys lane / 4 and 8 more, of two heads
#pragma unroll
    for (int k = 0; k < kD / 16; ++k) {
      uint32_t x[4];
      load_matrices(x, keys + lane % 16 * F::kStride + k * 32 + lane / 16 * 16);
      mma<Element>(scores, x, query[k][0], query[k][1]);
    }
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned key = j + lane / 4 + i / 2 * 8;
      float v = scores[i];
      if (adjusts) v = adjusted(v, a.softcap, slopes[i % 2] * static_cast<float>(static_cast<int>(key) - position));
      scores[i] = key >= part.begin && key < part.last ? v * kLog2E : -INFINITY;
    }
    float factors[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float m = fmaxf(scores[h], scores[h + 2]);
#pragma unroll
      for (int step = 4; step < 32; step *= 2) m = fmaxf(m, __shfl_xor_sync(0xFFFFFFFFu, m, step));
      m = fmaxf(m, seen[h].largest);
      const float base = m == -INFINITY ? 0.0f : m;
      factors[h] = exp2f(seen[h].largest - base);
      scores[h] = exp2f(scores[h] - base);
      scores[h + 2] = exp2f(scores[h + 2] - base);
      seen[h] = {m, seen[h].sum * factors[h] + scores[h] + scores[h + 2]};  // the sum: of this lane's keys
    }
    const uint32_t weights[2] = {transposed(pack<Element>(scores[0], scores[1])),
                                 transposed(pack<Element>(scores[2], scores[3]))};
#pragma unroll
    for (int m = 0; m < kD / 16; ++m) {
      uint32_t x[4];
      load_transposed(x, values + (lane % 8 + lane / 16 * 8) * F::kStride + m * 32 + lane / 8 % 2 * 16);
#pragma unroll
      for (int i = 0; i < 4; ++i) context[m][i] *= factors[i % 2];
      mma<Element>(context[m], x, weights[0], weights[1]);
    }
    __syncwarp();
    fetch(stage, j + F::kStages * kStep, ahead);
    ahead = row_of(j + (F::kStages + 1) * kStep);
    stage = stage + 1 == F::kStages ? 0 : stage + 1;
  }

  __syncthreads();
  constexpr int kSumStride = kD + 4;              // no two heads in one bank
  auto* sums = reinterpret_cast<float*>(memory);  // [warp, head, kSumStride]
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int step = 4; step < 32; step *= 2) seen[h].sum += __shfl_xor_sync(0xFFFFFFFFu, seen[h].sum, step);
    if (lane < 4) warps_saw[warp][own_head + h] = seen[h];
  }
#pragma unroll
  for (int m = 0; m < kD / 16; ++m) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const unsigned head = warp * kHeads + static_cast<unsigned>(own_head + i % 2);
      sums[head * kSumStride + m * 16 + lane / 4 + i / 2 * 8] = context[m][i];
    }
  }
  __syncthreads();

  const auto put = [&](int h, int c, const Gathered& all) {
    const float by = inverse_sum(a, first_head + h, all.seen);
    const float4 v = {all.v.x * by, all.v.y * by, all.v.z * by, all.v.w * by};
    if (a.fragments.x == nullptr) {
      *reinterpret_cast<float4*>(a.context + (t * a.n_head + first_head + h) * kD + c) = v;
    } else {
      const int64_t columns = FragmentRows::padded(int64_t{a.n_head} * kD);
      put_fragment(a.fragments, columns, t, static_cast<unsigned>((first_head + h) * kD + c), v);
      if (first_head + h + c == 0) a.fragments.unscale[t] = 1;
    }
  };
  // Of the parts of the keys: [token, head, part, kD], then what they saw: [token, head, part].
  float* parts = a.partial + (t * a.n_head + first_head) * a.splits * kD;
  auto* parts_saw = reinterpret_cast<Seen*>(a.partial + a.tokens.capacity * a.n_head * a.splits * kD) +
                    (t * a.n_head + first_head) * a.splits;
  const int mine = static_cast<int>(tid) * 4, stride = static_cast<int>(F::kWarps) * 32 * 4;
  for (int i = mine; i < heads * kD; i += stride) {
    const int h = i / kD, c = i % kD;
    Gathered all;
#pragma unroll
    for (unsigned w = 0; w < F::kWarps; ++w) {
      all.join(warps_saw[w][h], *reinterpret_cast<const float4*>(sums + (w * kHeads + h) * kSumStride + c));
    }
    if (part.n_splits == 1) {
      put(h, c, all);
      continue;
    }
    const int64_t at = h * a.splits + static_cast<int>(split);
    *reinterpret_cast<float4*>(parts + at * kD + c) = all.v;
    if (c == 0) parts_saw[at] = all.seen;
  }
  if (part.n_splits == 1) return;

  __threadfence();
  __syncthreads();
  if (tid == 0) {
    is_last = atomicInc(a.arrivals + t * a.n_head + first_head, part.n_splits - 1) == part.n_splits - 1;
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  for (int i = mine; i < heads * kD; i += stride) {
    const int h = i / kD, c = i % kD;
    Gathered all;
#pragma unroll 8
    for (unsigned n = 0; n < part.n_splits; ++n) {
      const int64_t at = h * a.splits + static_cast<int>(n);
      const float2 saw = __ldcg(reinterpret_cast<const float2*>(parts_saw + at));
      all.join({saw.x, saw.y}, __ldcg(reinterpret_cast<const float4*>(parts + at * kD + c)));
    }
    put(h, c, all);
  }
}

/// f(Form{}, Block{}) of the cache and the heads; false if there is none.
template <typename Call>
bool with_form(uint32_t cache_type, int64_t d, Call&& call) {
  const auto is = [&]<int kD, typename Block>(std::integral_constant<int, kD>, Block block) {
    if constexpr (std::is_same_v<Block, BlockF32> || kD % Block::kElems != 0) {
      return false;
    } else {
      if (d != kD) return false;
      call(Form<kD, Block>{}, std::integral_constant<int, kD>{}, block);
      return true;
    }
  };
  bool found = false;
  with_written_block(cache_type, [&]<typename Block>(Block block) {
    found = is(std::integral_constant<int, 64>{}, block) || is(std::integral_constant<int, 80>{}, block) ||
            is(std::integral_constant<int, 96>{}, block) || is(std::integral_constant<int, 128>{}, block) ||
            is(std::integral_constant<int, 256>{}, block);
  });
  return found;
}

int groups_of(int n_head, int n_kv_head) { return n_kv_head * ((n_head / n_kv_head + kHeads - 1) / kHeads); }

}  // namespace

bool decode_reads(uint32_t cache_type, int64_t d, int64_t page) {
  return capability_major() >= 8 && page % kTile == 0 && with_form(cache_type, d, [](auto, auto, auto) {});
}

int decode_splits(int64_t tokens, int n_head, int n_kv_head, int64_t most_keys) {
  if (tokens * n_head > kArrivals) return 1;
  const int64_t wanted = kWantedBlocks / groups_of(n_head, n_kv_head);
  const int64_t most = wanted < 1 ? 1 : wanted > kMostSplits ? kMostSplits : wanted;
  const int64_t fit = (most_keys + kRound * kFewRounds - 1) / (kRound * kFewRounds);
  return static_cast<int>(fit < 1 ? 1 : fit < most ? fit : most);
}

void launch_decode(const AttentionArgs& args, cudaStream_t stream) {
  AttentionArgs a = args;
  // Else tokens of a sequence have too many keys of each other to make.
  a.appends = a.tokens.capacity <= a.sequences;
  if (!a.appends) launch_append(a, stream);
  const dim3 grid(static_cast<unsigned>(groups_of(a.n_head, a.n_kv_head)), static_cast<unsigned>(a.tokens.capacity),
                  static_cast<unsigned>(a.splits));
  with_form(a.cache_type, a.d, [&]<typename F, int kD, typename Block>(F, std::integral_constant<int, kD>, Block) {
    constexpr int kShared = static_cast<int>(F::kWarps) * F::kWarpBytes;
    cudaFuncSetAttribute(decode<kD, Block>, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
    const int share = int{cudaSharedmemCarveoutMaxShared};
    launch_dependent(decode<kD, Block>, grid, dim3(F::kWarps * 32), LaunchShared{kShared, share}, stream, a);
  });
}

}  // namespace weft::cuda
