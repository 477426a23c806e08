// Weights as the second operand of a bf16 tile product: of sixteen rows and 32 columns, line p holds columns 2 p and
// 2 p + 1 of every row, 64 bytes (Intel SDM vol. 2, TDPBF16PS). Every format becomes this, rounded to nearest even,
// once for all tokens that meet it.
#pragma once

#include "backends/cpu/isa/decode.h"
#include "backends/cpu/isa/rows16.h"

namespace weft::cpu::WEFT_ISA {

constexpr int64_t kTileSide = 16, kTileColumns = 32, kTileBytes = 1024;

/// Sixteen pairs of neighbouring columns in bf16, from what they are in f32.
WEFT_INLINE I pairs(V even, V odd) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
}

/// Takes a packed block (rows16.h) group by group; each becomes a tile, `stride` bytes after the one before.
class PanelSink {
 public:
  WEFT_INLINE PanelSink(std::byte* out, int64_t stride) : out_(out), stride_(stride) {}

  WEFT_INLINE void nibbles(I q, int i) { q_[i % 32 / 4] = q; }
  WEFT_INLINE void dot(I q, int i) { q_[i % 32 / 4] = q; }
  WEFT_INLINE void biased(I q, int i) { q_[i % 32 / 4] = q; }
  WEFT_INLINE void shift(int, V by) { shift_ = by; }
  WEFT_INLINE void scale(int group, V factor) {
    put<0, 8>(group, factor, shift_);
    shift_ = set(0);
  }
  WEFT_INLINE void begin(int) {}
  WEFT_INLINE void half_less32(int, int) {}
  WEFT_INLINE void half_scale(int group, int half, V factor) {
    if (half == 0) {
      put<0, 4>(group, factor, times(factor, -32));
    } else {
      put<4, 8>(group, factor, times(factor, -32));
    }
  }

 private:
  template <int kFirst, int kLast>
  WEFT_INLINE void put(int group, V factor, V shift) {
    std::byte* tile = out_ + group * stride_;
#pragma GCC unroll 8
    for (int u = kFirst; u < kLast; ++u) {
      const I byte = set_i32(255), q = q_[u];
      const auto value = [&](I c) WEFT_LAMBDA { return fma(to_float(c), factor, shift); };
      const I low = pairs(value(and_i(q, byte)), value(and_i(right32<8>(q), byte)));
      const I high = pairs(value(and_i(right32<16>(q), byte)), value(right32<24>(q)));
      _mm512_store_si512(tile + u * 128, low);
      _mm512_store_si512(tile + u * 128 + 64, high);
    }
  }

  std::byte* out_;
  int64_t stride_;
  I q_[8];
  V shift_ = set(0);
};

/// `n` columns (a multiple of the block) of a packed tile of sixteen rows, whose first block is at w. Tiles of 32
/// columns each, `stride` bytes apart.
template <Format F>
void unpack_tile(const std::byte* w, int64_t n, std::byte* out, int64_t stride) {
  using Block = Rows16<F>;
  for (int64_t i = 0; i < n; i += Block::kElems, w += Block::kBytes) {
    PanelSink sink(out + i / kTileColumns * stride, stride);
    for_block<F>(w, 0, typename Block::State(w), sink);
  }
}

struct PackedFormat {
  int64_t elems = 0, bytes = 0;  // of a block of sixteen rows
  void (*unpack)(const std::byte* w, int64_t n, std::byte* out, int64_t stride) = nullptr;
};

template <Format F>
constexpr PackedFormat packed_format() {
  return {Rows16<F>::kElems, Rows16<F>::kBytes, unpack_tile<F>};
}

inline PackedFormat packed_format(Format format) {
  switch (format) {
    case Format::q8_0:
      return packed_format<Format::q8_0>();
    case Format::q4_0:
      return packed_format<Format::q4_0>();
    case Format::q4_1:
      return packed_format<Format::q4_1>();
    case Format::q5_0:
      return packed_format<Format::q5_0>();
    case Format::q5_1:
      return packed_format<Format::q5_1>();
    case Format::q4_K:
      return packed_format<Format::q4_K>();
    case Format::q5_K:
      return packed_format<Format::q5_K>();
    case Format::q6_K:
      return packed_format<Format::q6_K>();
    case Format::iq4_nl:
      return packed_format<Format::iq4_nl>();
    case Format::iq4_xs:
      return packed_format<Format::iq4_xs>();
    case Format::mxfp4:
      return packed_format<Format::mxfp4>();
    case Format::f32:
    case Format::f16:
    case Format::bf16:
    case Format::other:
      break;  // have no packed form
  }
  return {};
}

/// 16 x 16 lanes of 32 bits, turned.
WEFT_INLINE void turn(I (&r)[16]) {
  I s[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const I a = _mm512_unpacklo_epi32(r[i], r[i + 1]), b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    const I c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
    s[i] = _mm512_unpacklo_epi64(a, c);
    s[i + 1] = _mm512_unpackhi_epi64(a, c);
    s[i + 2] = _mm512_unpacklo_epi64(b, d);
    s[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const I a = _mm512_shuffle_i32x4(s[i], s[i + 4], 0x88), b = _mm512_shuffle_i32x4(s[i], s[i + 4], 0xDD);
    const I c = _mm512_shuffle_i32x4(s[i + 8], s[i + 12], 0x88), d = _mm512_shuffle_i32x4(s[i + 8], s[i + 12], 0xDD);
    r[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    r[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(a, c, 0xDD);
    r[i + 12] = _mm512_shuffle_i32x4(b, d, 0xDD);
  }
}

/// Columns of a row in bf16, 32 of them.
template <Format F>
WEFT_INLINE I columns32(const std::byte* p) {
  if constexpr (F == Format::bf16) {
    return load_as<I>(p);
  } else if constexpr (F == Format::f16) {
    return (I)_mm512_cvtne2ps_pbh(load_f16(p + 32), load_f16(p));
  } else {
    return (I)_mm512_cvtne2ps_pbh(load_as<V>(p + 64), load_as<V>(p));
  }
}

/// Columns [k0, k0 + n), n a multiple of 32, of the sixteen rows from `row` on, as tiles `stride` bytes apart.
template <Format F>
void turn_rows_of(const RowBlock& w, int64_t row, int64_t k0, int64_t n, std::byte* out, int64_t stride) {
  constexpr int64_t kBytes = F == Format::f32 ? 4 : 2;
  const std::byte* from = w.data + static_cast<size_t>(row) * w.row_bytes + k0 * kBytes;
  for (int64_t i = 0; i < n; i += kTileColumns, from += kTileColumns * kBytes, out += stride) {
    I r[16];
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) r[j] = columns32<F>(from + static_cast<size_t>(j) * w.row_bytes);
    turn(r);
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) _mm512_store_si512(out + j * 64, r[j]);
  }
}

/// The same for the formats it knows; false for others.
inline bool turn_rows(const RowBlock& w, int64_t row, int64_t k0, int64_t n, std::byte* out, int64_t stride) {
  switch (w.format) {
    case Format::f32:
      turn_rows_of<Format::f32>(w, row, k0, n, out, stride);
      return true;
    case Format::f16:
      turn_rows_of<Format::f16>(w, row, k0, n, out, stride);
      return true;
    case Format::bf16:
      turn_rows_of<Format::bf16>(w, row, k0, n, out, stride);
      return true;
    default:
      return false;
  }
}

}  // namespace weft::cpu::WEFT_ISA
