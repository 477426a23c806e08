// out[t, n] = dot(x[t, :], w[n, :]) for quantized activations and packed weights. Lanes are rows: sixteen rows of
// 32 columns are one integer sum each, scaled into an f32 accumulator over ascending columns.
//
// Every output element is the same arithmetic whatever the number of tokens, rows, tiles or threads. At one token bound
// by memory in every format: q4_0 is about 40 vector operations for the 288 bytes of 16 x 32 weights, which take 60
// cycles to arrive; so a thread reads four tiles at once, and prefetches a group's share at a time, into L2 well ahead
// and into L1 shortly before. At many tokens a block is unpacked once for up to kTokens of them; bound by the dot
// products (8 of about 12 operations on their ports).
#include "backends/cpu/isa/unpacked.h"

namespace weft::cpu::WEFT_ISA {
namespace {

constexpr int kPackedRows = 16, kParts = kPackedRows / kLanes, kTokens = kLanes == 16 ? 8 : 4;
constexpr int64_t kUnpackTokens = 2 * kTokens;  // from which on blocks that want it are unpacked for all first
constexpr int64_t kAhead = 2048;                // bytes prefetched ahead, where a thread reads one stream
constexpr int64_t kStreams = 4;                 // and where several, into L1 and into L2:
struct Ahead {
  int64_t l1, l2;
};
/// AMD's own prefetchers leave less to ask for.
WEFT_INLINE Ahead ahead_of(int64_t block) {
  if (block > 1024) return kAmd ? Ahead{block / 2, 2 * block} : Ahead{block, 3 * block};
  return kAmd ? Ahead{512, 2048} : Ahead{1024, 4096};
}

/// What a packed block is dotted with: a group of blocks of T tokens.
template <Format F, int T>
struct Sink {
  V (&sums)[T];
  const QuantizedBlock* x;
  int64_t stride;
  Products<Rows16<F>::kBits> acc[T];
  int unit = 0;                                     // how many acc has
  const std::byte *near = nullptr, *far = nullptr;  // what is prefetched into L1 and L2 at the end of group 0
  int64_t group_bytes = 0;                          // and how far on at that of the next;
  int64_t first_line = 0, end_line = 0;             // of each those lines

  WEFT_INLINE Sink(V (&s)[T], const QuantizedBlock* blocks, int64_t x_stride) : sums(s), x(blocks), stride(x_stride) {
    clear();
  }
  WEFT_INLINE void clear() {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[t].sums = zero_i();
    unit = 0;
  }
  WEFT_INLINE const QuantizedBlock& at(int t, int group) const { return x[t * stride + group]; }
  WEFT_INLINE I columns(int t, int i) const { return broadcast4(at(t, i / 32).q + i % 32); }

  WEFT_INLINE void nibbles(I q, int i) { dot(q, i); }
  WEFT_INLINE void biased(I q, int i) { dot(q, i); }
  WEFT_INLINE void dot(I q, int i) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[t].add(unit, q, columns(t, i));
    ++unit;
  }
  /// A group's share of the lines ahead: all of a block's at once would wait for each other.
  WEFT_INLINE void prefetch(int group) {
    if (end_line == 0) return;
    asm volatile("");  // or the compiler moves the prefetches of all groups to the front
    for (int64_t line = first_line; line < end_line; ++line) {  // past the weight is harmless: it never faults
      _mm_prefetch(reinterpret_cast<const char*>(near + group * group_bytes + line * 64), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(far + group * group_bytes + line * 64), _MM_HINT_T1);
    }
  }
  WEFT_INLINE void scale(int group, V factor) {
    prefetch(group);
    add_scaled(group, factor);
  }
  WEFT_INLINE void add_scaled(int group, V factor) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const V sum = to_float(acc[t].sums) * factor;
      sums[t] = fma(sum, set(at(t, group).d), sums[t]);
    }
    clear();
  }
  WEFT_INLINE void begin(int group) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[t].begin(at(t, group).less128);
  }
  WEFT_INLINE void shift(int group, V by) {
    if constexpr (!Rows16<F>::kShifts) return;
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) sums[t] = fma(by, set(at(t, group).sum), sums[t]);
  }
  WEFT_INLINE void half_less32(int group, int half) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[t].begin(at(t, group).less32[half]);
  }
  WEFT_INLINE void half_scale(int group, int half, V factor) {
    if (half == 0) prefetch(group);
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
#pragma GCC unroll 1
    for (int row = 0; row < kPackedRows; row += kLanes) {
      V sums[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sums[t] = load(out[t] + row);
      const QuantizedBlock* blocks = x;
      asm volatile("" : "+r"(blocks));  // or the broadcasts of all parts are hoisted, into registers there are not
      Sink<F, T> sink(sums, blocks, x_stride);
      Block::block(w, row, sink);
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

/// One token and kStreams tiles at once: the start of a page in one stream is hidden by the others.
template <Format F>
void streams_of(const PackedMatmul& m, int64_t row) {
  using Block = Rows16<F>;
  const int64_t tile_bytes = m.k / Block::kElems * Block::kBytes;
  const std::byte* w = m.w + row / kPackedRows * tile_bytes;
  const QuantizedBlock* x = m.x;
  const Ahead distance = ahead_of(Block::kBytes);
  float out[kStreams][kPackedRows] = {};
  for (int64_t at = 0; at < tile_bytes; at += Block::kBytes, x += Block::kElems / kQuantizedElems) {
    // Past the end of a tile lies the next, which another stream has read: on to the next tile of this stream.
    const auto ahead = [&](int64_t by) {
      return at + by < tile_bytes ? at + by : at + by + (kStreams - 1) * tile_bytes;
    };
    const int64_t near = ahead(distance.l1), far = ahead(distance.l2);
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) {
      const std::byte* block = w + s * tile_bytes + at;
      unroll<kParts>([&](auto part) WEFT_LAMBDA {
        constexpr int64_t kGroupBytes = Block::kBytes * kQuantizedElems / Block::kElems,
                          kLines = (kGroupBytes + 63) / 64;
        V sums[1] = {load(out[s] + part.value * kLanes)};
        Sink<F, 1> sink(sums, x, 0);
        sink.near = w + s * tile_bytes + near;
        sink.far = w + s * tile_bytes + far;
        sink.group_bytes = kGroupBytes;
        sink.first_line = kLines * part.value / kParts;
        sink.end_line = kLines * (part.value + 1) / kParts;
        Block::block(block, part.value * kLanes, sink);
        store(out[s] + part.value * kLanes, sums[0]);
      });
    }
  }
  for (int s = 0; s < kStreams; ++s) {
    for (int r = 0; r < kPackedRows; ++r) m.out[row + s * kPackedRows + r - m.first_row] = out[s][r];
  }
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
    for (; row + kStreams * kPackedRows <= m.first_row + m.n_rows; row += kStreams * kPackedRows) streams_of<F>(m, row);
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
