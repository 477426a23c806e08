// out[t, n] = dot(x[t, :], w[n, :]) for quantized activations and packed weights. Lanes are rows: sixteen rows of
// 32 columns are one integer sum each, scaled into an f32 accumulator over ascending columns.
//
// Every output element is the same arithmetic whatever the number of tokens, rows, tiles or threads. At one token bound
// by memory in every format: so a thread reads four tiles at once, as four linear streams that the processor's own
// prefetchers follow (entry 35), and they share the columns of x. At many tokens a block is unpacked once for up to
// kTokens of them; bound by the dot products (8 of about 12 operations on their ports).
#include "backends/cpu/isa/unpacked.h"

namespace weft::cpu::WEFT_ISA {
namespace {

constexpr int kPackedRows = 16, kParts = kPackedRows / kLanes, kTokens = kLanes == 16 ? 8 : 4;
constexpr int64_t kUnpackTokens = 2 * kTokens;  // from which on blocks that want it are unpacked for all first
constexpr int64_t kAhead = 2048;                // bytes prefetched ahead, where a thread reads one stream
constexpr int64_t kStreams = 4;                 // and where several, into L1 and, if not 0, into L2:
struct Ahead {
  int64_t l1, l2;
};
/// AMD's own prefetchers leave little to ask for, and nothing into L2.
WEFT_INLINE Ahead ahead_of(int64_t block) {
  if (kAmd) return {block > 3000 ? 512 : 256, 0};
  return block > 1024 ? Ahead{block, 3 * block} : Ahead{1024, 4096};
}

/// Four columns of x in every lane, from memory each time they are wanted;
struct Broadcasts {
  const QuantizedBlock* x;
  int64_t stride;
  WEFT_INLINE const QuantizedBlock& at(int t, int group) const { return x[t * stride + group]; }
  WEFT_INLINE I columns(int t, int i) const { return broadcast4(at(t, i / 32).q + i % 32); }
};
/// and from registers: those of one token and of N sums from kAt on, for all tiles that are read side by side. A
/// broadcast beside a load of 64 bytes costs Zen 4 as much as one (entry 35).
template <Format F, int kAt, int N>
struct Held {
  static constexpr int kUnits = kSumColumns<F> / 4;
  const QuantizedBlock* x;
  I columns_[N * kUnits];
  WEFT_INLINE explicit Held(const QuantizedBlock* blocks) : x(blocks) {
    unroll<N * kUnits>([&](auto i) WEFT_LAMBDA {
      constexpr int kSum = kAt + i.value / kUnits, kColumn = half_of<F>(kSum) * 16 + i.value % kUnits * 4;
      columns_[i.value] = broadcast4(x[group_of<F>(kSum)].q + kColumn);
    });
  }
  WEFT_INLINE const QuantizedBlock& at(int, int group) const { return x[group]; }
  WEFT_INLINE I columns(int, int i) const { return columns_[i / 32 % N * kUnits + i / 4 % kUnits]; }
};

/// What N sums of a packed block, whose columns come side by side, are dotted with: blocks of T tokens.
template <Format F, int T, int N, typename X>
struct Sink {
  V (&sums)[T];
  const X& x;
  Products<Rows16<F>::kBits> acc[N][T];
  int units[N];                      // how many acc has
  const std::byte* block = nullptr;  // null: nothing is prefetched
  Ahead ahead = {};
  int part = 0;

  WEFT_INLINE Sink(V (&s)[T], const X& columns) : sums(s), x(columns) {
    unroll<N>([&](auto j) WEFT_LAMBDA { clear(j.value); });
  }
  WEFT_INLINE void clear(int group) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[group % N][t].sums = zero_i();
    units[group % N] = 0;
  }

  WEFT_INLINE void nibbles(I q, int i) { dot(q, i); }
  WEFT_INLINE void biased(I q, int i) { dot(q, i); }
  WEFT_INLINE void dot(I q, int i) {
    const int at = i / 32 % N, unit = units[at]++;
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[at][t].add(unit, q, x.columns(t, i));
  }
  /// A sum's share of the lines ahead, and of it this part's: all of a block's at once would wait for each other.
  WEFT_INLINE void prefetch(int sum) {
    if (!block) return;
    constexpr int64_t kSums = Rows16<F>::kSums, kBytes = Rows16<F>::kBytes;
    const int64_t start = sum * kBytes / kSums / 64;
    const int64_t lines = (sum + 1 < kSums ? (sum + 1) * kBytes / kSums / 64 : (kBytes + 63) / 64) - start;
    const int64_t first = start + lines * part / kParts, end = start + lines * (part + 1) / kParts;
    asm volatile("");                                 // or the compiler moves the prefetches of all sums to the front
    for (int64_t line = first; line < end; ++line) {  // past the weight is harmless: it never faults
      _mm_prefetch(reinterpret_cast<const char*>(block + ahead.l1 + line * 64), _MM_HINT_T0);
    }
    if (ahead.l2 == 0) return;
    for (int64_t line = first; line < end; ++line) {
      _mm_prefetch(reinterpret_cast<const char*>(block + ahead.l2 + line * 64), _MM_HINT_T1);
    }
  }
  WEFT_INLINE void scale(int group, V factor) {
    prefetch(group);
    add_scaled(group, factor);
  }
  WEFT_INLINE void add_scaled(int group, V factor) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const V sum = to_float(acc[group % N][t].sums) * factor;
      sums[t] = fma(sum, set(x.at(t, group).d), sums[t]);
    }
    clear(group);
  }
  WEFT_INLINE void begin(int group) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[group % N][t].begin(x.at(t, group).less128);
  }
  WEFT_INLINE void shift(int group, V by) {
    if constexpr (!Rows16<F>::kShifts) return;
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) sums[t] = fma(by, set(x.at(t, group).sum), sums[t]);
  }
  WEFT_INLINE void half_less32(int group, int half) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[group % N][t].begin(x.at(t, group).less32[half]);
  }
  WEFT_INLINE void half_scale(int group, int half, V factor) {
    prefetch(group / 4 * 8 + half * 4 + group % 4);
    add_scaled(group, factor);
  }
};

/// Sixteen rows of T tokens.
template <Format F, int T>
void tile(const std::byte* w, const QuantizedBlock* x, int64_t x_stride, int64_t k, float (&out)[T][kPackedRows]) {
  using Block = Rows16<F>;
  for (int t = 0; t < T; ++t) {
    for (int row = 0; row < kPackedRows; row += kLanes) store(out[t] + row, set(0));
  }
  for (int64_t i = 0; i < k; i += Block::kElems, w += Block::kBytes, x += Block::kElems / kQuantizedElems) {
    for (int64_t line = 0; line < Block::kBytes; line += 64) {  // past the weight is harmless: it never faults
      _mm_prefetch(reinterpret_cast<const char*>(w + kAhead + line), _MM_HINT_T0);
    }
    const typename Block::State state(w);
#pragma GCC unroll 1
    for (int row = 0; row < kPackedRows; row += kLanes) {
      V sums[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sums[t] = load(out[t] + row);
      const QuantizedBlock* blocks = x;
      asm volatile("" : "+r"(blocks));  // or the broadcasts of all parts are hoisted, into registers there are not
      const Broadcasts columns{blocks, x_stride};
      Sink<F, T, 1, Broadcasts> sink(sums, columns);
      for_block<F>(w, row, state, sink);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) store(out[t] + row, sums[t]);
    }
  }
}

template <Format F, int T>
void tile_of(const PackedMatmul& m, int64_t row, int64_t token) {
  float out[T][kPackedRows];
  const int64_t tile_bytes = m.k / Rows16<F>::kElems * Rows16<F>::kBytes;
  tile<F, T>(m.w + row / kPackedRows * tile_bytes, m.x + token * m.x_stride, m.x_stride, m.k, out);
  const int64_t first = row < m.first_row ? m.first_row : row;
  const int64_t end = m.first_row + m.n_rows, last = row + kPackedRows < end ? row + kPackedRows : end;
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    float* to = m.out + (token + t) * m.out_stride - m.first_row;
    for (int64_t n = first; n < last; ++n) to[n] = out[t][n - row];
  }
}

/// One token and kStreams tiles at once, `apart` rows from each other: as many streams, whose next tiles come in the
/// next call.
template <Format F>
void streams_of(const PackedMatmul& m, int64_t row, int64_t apart) {
  using Block = Rows16<F>;
  using State = typename Block::State;
  const int64_t tile_bytes = m.k / Block::kElems * Block::kBytes, stream_bytes = apart / kPackedRows * tile_bytes;
  const std::byte* w = m.w + row / kPackedRows * tile_bytes;
  const QuantizedBlock* x = m.x;
  const Ahead ahead = ahead_of(Block::kBytes);
  V sums[kStreams][kParts][1];
  unroll<kStreams * kParts>([&](auto i) WEFT_LAMBDA { sums[i.value / kParts][i.value % kParts][0] = set(0); });
  for (const std::byte* end = w + tile_bytes; w < end; w += Block::kBytes, x += Block::kElems / kQuantizedElems) {
    asm("" : "+r"(w));  // or the compiler keeps a pointer for each stream and distance, of which there are too many
    const State states[kStreams] = {State(w), State(w + stream_bytes), State(w + 2 * stream_bytes),
                                    State(w + 3 * stream_bytes)};
    unroll<Block::kSums / Block::kStep>([&](auto step) WEFT_LAMBDA {
      constexpr int kAt = step.value * Block::kStep;
      using Columns = Held<F, kAt, Block::kStep>;
      const Columns columns(x);
      unroll<kStreams * kParts>([&](auto i) WEFT_LAMBDA {
        constexpr int kStream = i.value / kParts, kPart = i.value % kParts;
        Sink<F, 1, Block::kStep, Columns> sink(sums[kStream][kPart], columns);
        sink.block = w + kStream * stream_bytes;
        sink.ahead = ahead;
        sink.part = kPart;
        Block::template step<kAt, Block::kStep>(sink.block, kPart * kLanes, states[kStream], sink);
      });
    });
  }
  float* out = m.out + row - m.first_row;
  unroll<kStreams * kParts>([&](auto i) WEFT_LAMBDA {
    store(out + i.value / kParts * apart + i.value % kParts * kLanes, sums[i.value / kParts][i.value % kParts][0]);
  });
}

/// Up to kTokenTile tokens, sixteen rows.
template <Format F>
void unpacked_of(const PackedMatmul& m, int64_t row, int64_t token, int64_t n_tokens) {
  using Block = Rows16<F>;
  alignas(64) float out[kTokenTile][kPackedRows];
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int r = 0; r < kPackedRows; ++r) out[t][r] = 0;
  }
  const std::byte* w = m.w + row / kPackedRows * (m.k / Block::kElems * Block::kBytes);
  const QuantizedBlock* x = m.x + token * m.x_stride;
  Unpacked<F> block;
  for (int64_t i = 0; i < m.k; i += block.kColumns, x += block.kColumns / kQuantizedElems) {
    const int64_t left = m.k - i < block.kColumns ? m.k - i : block.kColumns, groups = left / kQuantizedElems;
    const int64_t bytes = left / Block::kElems * Block::kBytes;
    for (int64_t line = 0; line < bytes; line += 64) {  // past the weight is harmless: it never faults
      _mm_prefetch(reinterpret_cast<const char*>(w + bytes + line), _MM_HINT_T0);
    }
    w = block.unpack(w, groups);
    int64_t t = 0;
    for (; t + kTokens <= n_tokens; t += kTokens) {
      block.template multiply<kTokens>(x + t * m.x_stride, m.x_stride, groups, out + t);
    }
    for (; t < n_tokens; ++t) block.template multiply<1>(x + t * m.x_stride, m.x_stride, groups, out + t);
  }
  const int64_t first = row < m.first_row ? m.first_row : row;
  const int64_t end = m.first_row + m.n_rows, last = row + kPackedRows < end ? row + kPackedRows : end;
  for (int64_t t = 0; t < n_tokens; ++t) {
    float* to = m.out + (token + t) * m.out_stride - m.first_row;
    for (int64_t n = first; n < last; ++n) to[n] = out[t][n - row];
  }
}

/// q8_0 has nothing to unpack; of blocks of 32 so little that Zen 4 prefers weights in one stream, for 8 tokens at
/// once.
template <Format F>
WEFT_INLINE bool worth_unpacking() {
  return F != Format::q8_0 && !(kLanes == 16 && kAmd && Rows16<F>::kElems == kQuantizedElems);
}

template <Format F>
void multiply(const PackedMatmul& m) {
  int64_t row = m.first_row / kPackedRows * kPackedRows;
  if (m.n_tokens == 1 && row == m.first_row) {
    const int64_t apart = m.n_rows / (kStreams * kPackedRows) * kPackedRows;
    for (int64_t n = 0; n < apart; n += kPackedRows) streams_of<F>(m, row + n, apart);
    row += kStreams * apart;
  }
  for (; row < m.first_row + m.n_rows; row += kPackedRows) {
    int64_t t = 0;
    while (worth_unpacking<F>() && m.n_tokens - t >= kUnpackTokens) {
      const int64_t n = m.n_tokens - t < kTokenTile ? m.n_tokens - t : kTokenTile;
      unpacked_of<F>(m, row, t, n);
      t += n;
    }
    for (; t + kTokens <= m.n_tokens; t += kTokens) tile_of<F, kTokens>(m, row, t);
    if constexpr (kTokens > 4) {
      for (; t + 4 <= m.n_tokens; t += 4) tile_of<F, 4>(m, row, t);
    }
    for (; t + 2 <= m.n_tokens; t += 2) tile_of<F, 2>(m, row, t);
    for (; t < m.n_tokens; ++t) tile_of<F, 1>(m, row, t);
  }
}

}  // namespace

void matmul_packed(const PackedMatmul& m) {
  switch (m.format) {
    case Format::q8_0:
      return multiply<Format::q8_0>(m);
    case Format::q4_0:
      return multiply<Format::q4_0>(m);
    case Format::q4_1:
      return multiply<Format::q4_1>(m);
    case Format::q5_0:
      return multiply<Format::q5_0>(m);
    case Format::q5_1:
      return multiply<Format::q5_1>(m);
    case Format::q4_K:
      return multiply<Format::q4_K>(m);
    case Format::q5_K:
      return multiply<Format::q5_K>(m);
    case Format::q6_K:
      return multiply<Format::q6_K>(m);
    case Format::iq4_nl:
      return multiply<Format::iq4_nl>(m);
    case Format::iq4_xs:
      return multiply<Format::iq4_xs>(m);
    case Format::mxfp4:
      return multiply<Format::mxfp4>(m);
    case Format::f32:
    case Format::f16:
    case Format::bf16:
    case Format::other:
      return;  // have no packed form
  }
}

// The scale spans the block: max|x| / 127. Magnitudes order like their bits and NaN is the largest, so that a block
// that is not finite gets a scale that is not.
void quantize(const float* x, int64_t n, QuantizedBlock* out) {
  constexpr int kVectors = kQuantizedElems / kLanes;
  for (; n > 0; n -= kQuantizedElems, x += kQuantizedElems, ++out) {
    I largest = zero_i();
    for (int v = 0; v < kVectors; ++v) {
      largest = max_i32(largest, and_i(as_int(load(x + v * kLanes)), set_i32(0x7FFFFFFF)));
    }
    const float most = __builtin_bit_cast(float, max_of_i32(largest));
    const float d = most / 127, inverse = most > 1e-30f ? 127 / most : 0;
    uint32_t total[2] = {0, 0};  // wraps where the block is not finite, and does not matter there
    for (int v = 0; v < kVectors; ++v) {
      const I q = nearest(load(x + v * kLanes) * set(inverse));
      store_i8(out->q + v * kLanes, q);
      total[v * 2 / kVectors] += static_cast<uint32_t>(sum_of(q));
    }
    out->d = d;
    for (int half = 0; half < 2; ++half) out->less32[half] = less32_of(out->q + half * 16, total[half]);
    const uint32_t all = total[0] + total[1];
    out->less128 = static_cast<int32_t>(0u - 128u * all);
    out->sum = d * static_cast<float>(static_cast<int32_t>(all));
  }
}

}  // namespace weft::cpu::WEFT_ISA
