// How packed blocks (ops/quant/rows16.h) are read: Rows16<F>::block hands the quants of sixteen rows to a
// sink, group by group of 32 columns, as unsigned bytes, and says of each group what a quant is worth: scale * q +
// shift, one of each a row. The sink has
//   nibbles(q, i)  dot(q, i)  biased(q, i)   columns i .. i + 3 of the group: q below 16, below 128, or signed + kBias
//   shift(group, v)                          adds v times the sum of x
//   scale(group, v)                          ends the group
//   begin(group)                             begins its sums with -128 times the sum of x; shift then adds nothing
//   half_less32(group, half)                 begins the sums of 16 columns with -32 times the sum of x
//   half_scale(group, half, v)               ends them
// kBits: of the quants, 8 of biased ones; kShifts, kBegins, kHalves: whether shift adds, and whether begin, or the last
// two, are called.
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
  static constexpr int kBits = 4;
  static constexpr bool kShifts = kBias == 0, kBegins = kBias != 0, kHalves = false;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    if constexpr (kBegins) sink.begin(0);
    unroll<4>([&](auto i) WEFT_LAMBDA {
      const I w = unit(p + 32, i.value, row);
      sink.nibbles(kBias != 0 ? high_nibbles(left16<4>(w)) : low4(w), 4 * i.value);
      sink.nibbles(high_nibbles(w), 16 + 4 * i.value);
    });
    const V d = f16_of(p, row);
    sink.shift(0, times(d, -8));
    sink.scale(0, times(d, kHighUnit));
  }
};
template <>
struct Rows16<Format::q4_1> {
  static constexpr int kElems = 32, kBytes = 16 * 20;
  static constexpr int kBits = 4;
  static constexpr bool kShifts = true, kBegins = false, kHalves = false;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    nibbles32(p + 64, row, sink);
    sink.shift(0, f16_of(p + 32, row));
    sink.scale(0, f16_of(p, row));
  }
};
template <>
struct Rows16<Format::q5_0> {
  static constexpr int kElems = 32, kBytes = 16 * 22;
  static constexpr int kBits = 5;
  static constexpr bool kShifts = true, kBegins = false, kHalves = false;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    fives32(p + 32, p + 96, row, sink);
    const V d = f16_of(p, row);
    sink.shift(0, times(d, -16));
    sink.scale(0, d);
  }
};
template <>
struct Rows16<Format::q5_1> {
  static constexpr int kElems = 32, kBytes = 16 * 24;
  static constexpr int kBits = 5;
  static constexpr bool kShifts = true, kBegins = false, kHalves = false;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    fives32(p + 64, p + 128, row, sink);
    sink.shift(0, f16_of(p + 32, row));
    sink.scale(0, f16_of(p, row));
  }
};
template <>
struct Rows16<Format::q8_0> {
  static constexpr int kElems = 32, kBytes = 16 * 34;
  static constexpr int kBits = 8;
  static constexpr bool kShifts = false, kBegins = kBias != 0, kHalves = false;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    if constexpr (kBegins) sink.begin(0);
    unroll<8>([&](auto i) WEFT_LAMBDA { sink.biased(xor_i(unit(p + 32, i.value, row), set_i8(kBias)), 4 * i.value); });
    const V d = f16_of(p, row);
    if constexpr (kBias != 0) sink.shift(0, times(d, -kBias));
    sink.scale(0, d);
  }
};

inline constexpr int8_t kLevelsIQ4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline constexpr int8_t kLevelsMXFP4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

template <>
struct Rows16<Format::iq4_nl> {
  static constexpr int kElems = 32, kBytes = 16 * 18;
  static constexpr int kBits = 8;
  static constexpr bool kShifts = false, kBegins = kBias != 0, kHalves = false;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    if constexpr (kBegins) sink.begin(0);
    levels32<0>(p + 32, row, load_as<__m128i>(kLevelsIQ4), sink);
    const V d = f16_of(p, row);
    if constexpr (kBias != 0) sink.shift(0, times(d, -kBias));
    sink.scale(0, d);
  }
};
template <>
struct Rows16<Format::mxfp4> {
  static constexpr int kElems = 32, kBytes = 16 * 17;
  static constexpr int kBits = 8;
  static constexpr bool kShifts = false, kBegins = kBias != 0, kHalves = false;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    if constexpr (kBegins) sink.begin(0);
    levels32<0>(p + 16, row, load_as<__m128i>(kLevelsMXFP4), sink);
    const I e = from_u8(p + row);  // half the scale is 2^(e - 128): subnormal for e < 2
    const V d = as_float(choose_above(e, 1, left32<23>(add_i32(e, set_i32(-1))), shift_by(set_i32(0x00200000), e)));
    if constexpr (kBias != 0) sink.shift(0, times(d, -kBias));
    sink.scale(0, d);
  }
};

/// The scales and mins of q4_K and q5_K: six bits each in twelve bytes a row (ScalesK in ops/quant/q4_k.h), unpacked
/// for all groups and rows at once.
class ScalesK {
 public:
  WEFT_INLINE ScalesK(const std::byte* p, int row)
      : row_(row), d_(f16_of(p, row)), min_(times(f16_of(p + 32, row), -1)) {
    for (size_t at = 0; at < 64; at += sizeof(I)) {
      const I a = load_as<I>(p + 64 + at), b = load_as<I>(p + 128 + at), c = load_as<I>(p + 192 + at);
      const I six = set_i8(63), top = set_i8(0x30);
      put(scales_ + at, and_i(a, six));
      put(mins_ + at, and_i(b, six));
      put(scales_ + 64 + at, low4_or(c, and_i(right16<2>(a), top)));
      put(mins_ + 64 + at, low4_or(right16<4>(c), and_i(right16<2>(b), top)));
    }
  }
  /// Ends group G, whose quants are `unit` apart.
  template <int G, typename S>
  WEFT_INLINE void end(float unit, S& sink) const {
    sink.shift(G, min_ * to_float(from_u8(mins_ + G * 16 + row_)));
    sink.scale(G, (unit == 1 ? d_ : times(d_, unit)) * to_float(from_u8(scales_ + G * 16 + row_)));
  }

 private:
  static WEFT_INLINE void put(std::byte* to, I v) { __builtin_memcpy(to, &v, sizeof v); }

  int row_;
  V d_, min_;
  alignas(64) std::byte scales_[128], mins_[128];
};

template <>
struct Rows16<Format::q4_K> {
  static constexpr int kElems = 256, kBytes = 16 * 144;
  static constexpr int kBits = 4;
  static constexpr bool kShifts = true, kBegins = false, kHalves = false;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    const ScalesK scales(p, row);
    unroll<8>([&](auto g) WEFT_LAMBDA {
      unroll<8>([&](auto i) WEFT_LAMBDA {
        const I w = unit(p + 256, g.value / 2 * 8 + i.value, row);
        sink.nibbles(g.value % 2 ? high_nibbles(w) : low4(w), 32 * g.value + 4 * i.value);
      });
      scales.end<g.value>(g.value % 2 ? kHighUnit : 1, sink);
    });
  }
};
template <>
struct Rows16<Format::q5_K> {
  static constexpr int kElems = 256, kBytes = 16 * 176;
  static constexpr int kBits = 5;
  static constexpr bool kShifts = true, kBegins = false, kHalves = false;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    const ScalesK scales(p, row);
    unroll<8>([&](auto g) WEFT_LAMBDA {
      unroll<8>([&](auto i) WEFT_LAMBDA {
        const I w = unit(p + 768, g.value / 2 * 8 + i.value, row), bits = unit(p + 256, i.value, row);
        const I fifth = and_i(g.value < 4 ? left16<(g.value < 4 ? 4 - g.value : 0)>(bits)
                                          : right16<(g.value < 4 ? 0 : g.value - 4)>(bits),
                              set_i8(16));
        sink.dot(low4_or(g.value % 2 ? right16<4>(w) : w, fifth), 32 * g.value + 4 * i.value);
      });
      scales.end<g.value>(1, sink);
    });
  }
};
template <>
struct Rows16<Format::q6_K> {
  static constexpr int kElems = 256, kBytes = 16 * 210;
  static constexpr int kBits = 6;
  static constexpr bool kShifts = false, kBegins = false, kHalves = true;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    const V d = f16_of(p + 3328, row);
    unroll<8>([&](auto g) WEFT_LAMBDA {  // 32 columns: quarter r of half h
      constexpr int kHalf = g.value / 4, kQuarter = g.value % 4;
      unroll<8>([&](auto i) WEFT_LAMBDA {
        const I low = unit(p, 16 * kHalf + 8 * (kQuarter % 2) + i.value, row);
        const I high = unit(p + 2048, 8 * kHalf + i.value, row);
        const I top = kQuarter < 2 ? left32<4 - 2 * (kQuarter % 2)>(high) : right16<2 * (kQuarter % 2)>(high);
        if constexpr (i.value % 4 == 0) sink.half_less32(g.value, i.value / 4);
        sink.dot(low4_or(kQuarter < 2 ? low : right16<4>(low), and_i(top, set_i8(0x30))), 32 * g.value + 4 * i.value);
        if constexpr (i.value % 4 == 3) {
          sink.half_scale(g.value, i.value / 4,
                          d * to_float(from_i8(p + 3072 + 16 * (2 * g.value + i.value / 4) + row)));
        }
      });
    });
  }
};
template <>
struct Rows16<Format::iq4_xs> {
  static constexpr int kElems = 256, kBytes = 16 * 136;
  static constexpr int kBits = 8;
  static constexpr bool kShifts = false, kBegins = kBias != 0, kHalves = false;
  template <typename S>
  static WEFT_INLINE void block(const std::byte* p, int row, S& sink) {
    const V d = f16_of(p, row);
    const I high = from_u16(p + 32 + row * 2);
    unroll<8>([&](auto g) WEFT_LAMBDA {
      if constexpr (kBegins) sink.begin(g.value);
      levels32<32 * g.value>(p + 128 + g.value * 256, row, load_as<__m128i>(kLevelsIQ4), sink);
      const I low = from_u8(p + 64 + g.value / 2 * 16 + row);
      const I code = or_i(and_i(g.value % 2 ? right32<4>(low) : low, set_i32(15)),
                          left32<4>(and_i(right32<2 * g.value>(high), set_i32(3))));
      const V scale = d * to_float(add_i32(code, set_i32(-32)));
      if constexpr (kBias != 0) sink.shift(g.value, times(scale, -kBias));
      sink.scale(g.value, scale);
    });
  }
};

}  // namespace weft::cpu::WEFT_ISA
