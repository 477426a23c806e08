// How packed blocks (ops/quant/rows16.h) become dot products: Rows16<F>::block hands the quants of sixteen rows to a
// sink, group by group of 32 columns, as unsigned bytes, and says of each group what a quant is worth: scale * q +
// shift, one of each a row. The sink has
//   nibbles(q, i)  dot(q, i)  biased(q, i)   columns i .. i + 3 of the group: q below 16, below 128, or signed + kBias
//   scale(group, v)  shift(group, v)         ends the sums so far; adds v times the sum of x
//   half_scale(group, half, v), half_shift   the same for 16 columns
#pragma once

#include "backends/cpu/isa/int8.h"
#include "backends/cpu/isa/kernels.h"

namespace weft::cpu::WEFT_ISA {

template <int N, typename F>
WEFT_INLINE void unroll(F f) {
  if constexpr (N > 0) {
    unroll<N - 1>(f);
    f(Count<N - 1>{});
  }
}

/// The vector of unit i, rows from `row` on.
WEFT_INLINE I unit(const std::byte* p, int i, int row) { return load_as<I>(p + i * 64 + row * 4); }
WEFT_INLINE I low4(I v) { return and_i(v, set_i8(15)); }
WEFT_INLINE I high4(I v) { return and_i(right16<4>(v), set_i8(15)); }
WEFT_INLINE V f16_of(const std::byte* p, int row) { return load_f16(p + row * 2); }
WEFT_INLINE V times(V v, float factor) { return v * set(factor); }

template <Format F>
struct Rows16;

/// Sixteen bytes of nibbles a row: columns 0..15 low, 16..31 high.
template <typename S>
WEFT_INLINE void nibbles32(const std::byte* qs, int row, S& sink) {
  unroll<4>([&](auto i) WEFT_LAMBDA {
    const I w = unit(qs, i.value, row);
    sink.nibbles(low4(w), 4 * i.value);
    sink.nibbles(high4(w), 16 + 4 * i.value);
  });
}
/// The same, nibbles being indices of levels; columns from kAt on.
template <int kAt, typename S>
WEFT_INLINE void levels32(const std::byte* qs, int row, __m128i levels, S& sink) {
  const __m128i biased = _mm_add_epi8(levels, _mm_set1_epi8(static_cast<char>(kBias)));
  unroll<4>([&](auto i) WEFT_LAMBDA {
    const I w = unit(qs, i.value, row);
    sink.biased(lookup(biased, low4(w)), kAt + 4 * i.value);
    sink.biased(lookup(biased, high4(w)), kAt + 16 + 4 * i.value);
  });
}
/// The same nibbles and a fifth bit each: bit i of a row's 32 is column i's.
template <typename S>
WEFT_INLINE void fives32(const std::byte* qh, const std::byte* qs, int row, S& sink) {
  const I bits = unit(qh, 0, row), ten = set_i8(16);
  const auto fifth = [&](auto byte, auto first) WEFT_LAMBDA {  // of columns 8 * byte + first ..
    constexpr int kByte = decltype(byte)::value, kFirst = decltype(first)::value;
    const __m128i spread = _mm_add_epi8(_mm_set_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0), _mm_set1_epi8(kByte));
    return where_bit(lookup_within(bits, spread), set_i32(0x08040201 << kFirst), ten);
  };
  unroll<4>([&](auto i) WEFT_LAMBDA {
    const I w = unit(qs, i.value, row);
    const Count<i.value % 2 * 4> first;
    sink.dot(or_i(low4(w), fifth(Count<i.value / 2>{}, first)), 4 * i.value);
    sink.dot(or_i(high4(w), fifth(Count<2 + i.value / 2>{}, first)), 16 + 4 * i.value);
  });
}

template <>
struct Rows16<Format::q4_0> {
  static constexpr int kElems = 32, kBytes = 16 * 18;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    nibbles32(p + 32, row, sink);
    const V d = f16_of(p, row);
    sink.scale(0, d);
    sink.shift(0, times(d, -8));
  }
};
template <>
struct Rows16<Format::q4_1> {
  static constexpr int kElems = 32, kBytes = 16 * 20;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    nibbles32(p + 64, row, sink);
    sink.scale(0, f16_of(p, row));
    sink.shift(0, f16_of(p + 32, row));
  }
};
template <>
struct Rows16<Format::q5_0> {
  static constexpr int kElems = 32, kBytes = 16 * 22;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    fives32(p + 32, p + 96, row, sink);
    const V d = f16_of(p, row);
    sink.scale(0, d);
    sink.shift(0, times(d, -16));
  }
};
template <>
struct Rows16<Format::q5_1> {
  static constexpr int kElems = 32, kBytes = 16 * 24;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    fives32(p + 64, p + 128, row, sink);
    sink.scale(0, f16_of(p, row));
    sink.shift(0, f16_of(p + 32, row));
  }
};
template <>
struct Rows16<Format::q8_0> {
  static constexpr int kElems = 32, kBytes = 16 * 34;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    unroll<8>([&](auto i) WEFT_LAMBDA { sink.biased(xor_i(unit(p + 32, i.value, row), set_i8(kBias)), 4 * i.value); });
    const V d = f16_of(p, row);
    sink.scale(0, d);
    if constexpr (kBias != 0) sink.shift(0, times(d, -kBias));
  }
};

inline constexpr int8_t kLevelsIQ4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline constexpr int8_t kLevelsMXFP4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

template <>
struct Rows16<Format::iq4_nl> {
  static constexpr int kElems = 32, kBytes = 16 * 18;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    levels32<0>(p + 32, row, load_as<__m128i>(kLevelsIQ4), sink);
    const V d = f16_of(p, row);
    sink.scale(0, d);
    if constexpr (kBias != 0) sink.shift(0, times(d, -kBias));
  }
};
template <>
struct Rows16<Format::mxfp4> {
  static constexpr int kElems = 32, kBytes = 16 * 17;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    levels32<0>(p + 16, row, load_as<__m128i>(kLevelsMXFP4), sink);
    const I e = from_u8(p + row);  // half the scale is 2^(e - 128): subnormal for e < 2
    const V d = as_float(choose_above(e, 1, left32<23>(add_i32(e, set_i32(-1))), shift_by(set_i32(0x00200000), e)));
    sink.scale(0, d);
    if constexpr (kBias != 0) sink.shift(0, times(d, -kBias));
  }
};

/// Six-bit scales and mins of q4_K and q5_K, twelve bytes a row (ScalesK in ops/quant/q4_k.h).
template <int G>
WEFT_INLINE I scale_k(const std::byte* b, int row) {
  const auto byte = [&](int i) WEFT_LAMBDA { return from_u8(b + i * 16 + row); };
  if constexpr (G < 4) return and_i(byte(G), set_i32(63));
  else return or_i(and_i(byte(G + 4), set_i32(15)), left32<4>(right32<6>(byte(G - 4))));
}
template <int G>
WEFT_INLINE I min_k(const std::byte* b, int row) {
  const auto byte = [&](int i) WEFT_LAMBDA { return from_u8(b + i * 16 + row); };
  if constexpr (G < 4) return and_i(byte(G + 4), set_i32(63));
  else return or_i(right32<4>(byte(G + 4)), left32<4>(right32<6>(byte(G))));
}
template <int G, typename S>
WEFT_INLINE void scale_and_min_k(const std::byte* p, int row, S& sink) {
  sink.scale(G, f16_of(p, row) * to_float(scale_k<G>(p + 64, row)));
  sink.shift(G, times(f16_of(p + 32, row), -1) * to_float(min_k<G>(p + 64, row)));
}

template <>
struct Rows16<Format::q4_K> {
  static constexpr int kElems = 256, kBytes = 16 * 144;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    unroll<8>([&](auto g) WEFT_LAMBDA {
      unroll<8>([&](auto i) WEFT_LAMBDA {
        const I w = unit(p + 256, g.value / 2 * 8 + i.value, row);
        sink.nibbles(g.value % 2 ? high4(w) : low4(w), 32 * g.value + 4 * i.value);
      });
      scale_and_min_k<g.value>(p, row, sink);
    });
  }
};
template <>
struct Rows16<Format::q5_K> {
  static constexpr int kElems = 256, kBytes = 16 * 176;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    unroll<8>([&](auto g) WEFT_LAMBDA {
      unroll<8>([&](auto i) WEFT_LAMBDA {
        const I w = unit(p + 768, g.value / 2 * 8 + i.value, row);
        const I fifth = where_bit(unit(p + 256, i.value, row), set_i8(1 << g.value), set_i8(16));
        sink.dot(or_i(g.value % 2 ? high4(w) : low4(w), fifth), 32 * g.value + 4 * i.value);
      });
      scale_and_min_k<g.value>(p, row, sink);
    });
  }
};
template <>
struct Rows16<Format::q6_K> {
  static constexpr int kElems = 256, kBytes = 16 * 210;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    const V d = f16_of(p + 3328, row);
    unroll<8>([&](auto g) WEFT_LAMBDA {  // 32 columns: quarter r of half h
      constexpr int kHalf = g.value / 4, kQuarter = g.value % 4;
      unroll<8>([&](auto i) WEFT_LAMBDA {
        const I low = unit(p, 16 * kHalf + 8 * (kQuarter % 2) + i.value, row);
        const I high = unit(p + 2048, 8 * kHalf + i.value, row);
        const I top = kQuarter < 2 ? left32<4 - 2 * (kQuarter % 2)>(high) : right16<2 * (kQuarter % 2)>(high);
        sink.dot(or_i(kQuarter < 2 ? low4(low) : high4(low), and_i(top, set_i8(0x30))), 32 * g.value + 4 * i.value);
        if constexpr (i.value % 4 == 3) {
          const V scale = d * to_float(from_i8(p + 3072 + 16 * (2 * g.value + i.value / 4) + row));
          sink.half_scale(g.value, i.value / 4, scale);
          sink.half_shift(g.value, i.value / 4, times(scale, -32));
        }
      });
    });
  }
};
template <>
struct Rows16<Format::iq4_xs> {
  static constexpr int kElems = 256, kBytes = 16 * 136;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    const V d = f16_of(p, row);
    const I high = from_u16(p + 32 + row * 2);
    unroll<8>([&](auto g) WEFT_LAMBDA {
      levels32<32 * g.value>(p + 128 + g.value * 256, row, load_as<__m128i>(kLevelsIQ4), sink);
      const I low = from_u8(p + 64 + g.value / 2 * 16 + row);
      const I code = or_i(and_i(g.value % 2 ? right32<4>(low) : low, set_i32(15)),
                          left32<4>(and_i(right32<2 * g.value>(high), set_i32(3))));
      const V scale = d * to_float(add_i32(code, set_i32(-32)));
      sink.scale(g.value, scale);
      if constexpr (kBias != 0) sink.shift(g.value, times(scale, -kBias));
    });
  }
};

}  // namespace weft::cpu::WEFT_ISA
