// How packed blocks (ops/quant/rows16.h) are read: the quants of sixteen rows go to a sink as unsigned bytes, sum by
// sum, each of a group of 32 columns, or half of one, that has a scale; and of each is said what a quant is worth:
// scale * q + shift, one of each a row. for_block does so sum by sum; Rows16<F>::step for kN of the kSums sums of a
// block from kAt on, whose columns come side by side: one, or kStep, which takes the bytes in the order they are
// stored. `State` is what the steps of a block share. The sink has
//   nibbles(q, i)  dot(q, i)  biased(q, i)   columns i .. i + 3: q below 16, below 128, or signed + kBias
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

struct Stateless {
  WEFT_INLINE explicit Stateless(const std::byte*) {}
};

/// A part of a block's rows, kLanes from `row` on.
template <Format F, typename S>
WEFT_INLINE void for_block(const std::byte* p, int row, const typename Rows16<F>::State& state, S& sink) {
  using Block = Rows16<F>;
  unroll<Block::kSums>([&](auto i) WEFT_LAMBDA { Block::template step<i.value, 1>(p, row, state, sink); });
}

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
  static constexpr int kElems = 32, kSums = 1, kBytes = 16 * 18;
  static constexpr int kBits = 4;
  static constexpr bool kShifts = kBias == 0, kBegins = kBias != 0, kHalves = false;
  static constexpr int kStep = 1;
  using State = Stateless;
  template <int kAt, int kN, typename S>
  static WEFT_INLINE void step(const std::byte* p, int row, const State&, S& sink) {
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
  static constexpr int kElems = 32, kSums = 1, kBytes = 16 * 20;
  static constexpr int kBits = 4;
  static constexpr bool kShifts = true, kBegins = false, kHalves = false;
  static constexpr int kStep = 1;
  using State = Stateless;
  template <int kAt, int kN, typename S>
  static WEFT_INLINE void step(const std::byte* p, int row, const State&, S& sink) {
    nibbles32(p + 64, row, sink);
    sink.shift(0, f16_of(p + 32, row));
    sink.scale(0, f16_of(p, row));
  }
};
template <>
struct Rows16<Format::q5_0> {
  static constexpr int kElems = 32, kSums = 1, kBytes = 16 * 22;
  static constexpr int kBits = 5;
  static constexpr bool kShifts = true, kBegins = false, kHalves = false;
  static constexpr int kStep = 1;
  using State = Stateless;
  template <int kAt, int kN, typename S>
  static WEFT_INLINE void step(const std::byte* p, int row, const State&, S& sink) {
    fives32(p + 32, p + 96, row, sink);
    const V d = f16_of(p, row);
    sink.shift(0, times(d, -16));
    sink.scale(0, d);
  }
};
template <>
struct Rows16<Format::q5_1> {
  static constexpr int kElems = 32, kSums = 1, kBytes = 16 * 24;
  static constexpr int kBits = 5;
  static constexpr bool kShifts = true, kBegins = false, kHalves = false;
  static constexpr int kStep = 1;
  using State = Stateless;
  template <int kAt, int kN, typename S>
  static WEFT_INLINE void step(const std::byte* p, int row, const State&, S& sink) {
    fives32(p + 64, p + 128, row, sink);
    sink.shift(0, f16_of(p + 32, row));
    sink.scale(0, f16_of(p, row));
  }
};
template <>
struct Rows16<Format::q8_0> {
  static constexpr int kElems = 32, kSums = 1, kBytes = 16 * 34;
  static constexpr int kBits = 8;
  static constexpr bool kShifts = false, kBegins = kBias != 0, kHalves = false;
  static constexpr int kStep = 1;
  using State = Stateless;
  template <int kAt, int kN, typename S>
  static WEFT_INLINE void step(const std::byte* p, int row, const State&, S& sink) {
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
  static constexpr int kElems = 32, kSums = 1, kBytes = 16 * 18;
  static constexpr int kBits = 8;
  static constexpr bool kShifts = false, kBegins = kBias != 0, kHalves = false;
  static constexpr int kStep = 1;
  using State = Stateless;
  template <int kAt, int kN, typename S>
  static WEFT_INLINE void step(const std::byte* p, int row, const State&, S& sink) {
    if constexpr (kBegins) sink.begin(0);
    levels32<0>(p + 32, row, load_as<__m128i>(kLevelsIQ4), sink);
    const V d = f16_of(p, row);
    if constexpr (kBias != 0) sink.shift(0, times(d, -kBias));
    sink.scale(0, d);
  }
};
template <>
struct Rows16<Format::mxfp4> {
  static constexpr int kElems = 32, kSums = 1, kBytes = 16 * 17;
  static constexpr int kBits = 8;
  static constexpr bool kShifts = false, kBegins = kBias != 0, kHalves = false;
  static constexpr int kStep = 1;
  using State = Stateless;
  template <int kAt, int kN, typename S>
  static WEFT_INLINE void step(const std::byte* p, int row, const State&, S& sink) {
    if constexpr (kBegins) sink.begin(0);
    levels32<0>(p + 16, row, load_as<__m128i>(kLevelsMXFP4), sink);
    const I e = from_u8(p + row);  // half the scale is 2^(e - 128): subnormal for e < 2
    const V d = as_float(choose_above(e, 1, left32<23>(add_i32(e, set_i32(-1))), shift_by(set_i32(0x00200000), e)));
    if constexpr (kBias != 0) sink.shift(0, times(d, -kBias));
    sink.scale(0, d);
  }
};

/// Groups of a K-quant that are one step: two where there are registers for the columns of both, since they share
/// bytes.
inline constexpr int kPair = kLanes == 16 ? 2 : 1;
inline constexpr int kRowParts = 16 / kLanes;

/// The scales and mins of q4_K and q5_K: six bits each in twelve bytes a row (ScalesK in ops/quant/q4_k.h), unpacked
/// for all groups and rows at once.
class ScalesK {
 public:
  WEFT_INLINE explicit ScalesK(const std::byte* p) {
    for (int part = 0; part < kRowParts; ++part) {
      d_[part] = f16_of(p, part * kLanes);
      min_[part] = times(f16_of(p + 32, part * kLanes), -1);
    }
    for (size_t at = 0; at < 64; at += sizeof(I)) {
      const I a = load_as<I>(p + 64 + at), b = load_as<I>(p + 128 + at), c = load_as<I>(p + 192 + at);
      const I six = set_i8(63), top = set_i8(0x30);
      put(scales_ + at, and_i(a, six));
      put(mins_ + at, and_i(b, six));
      put(scales_ + 64 + at, low4_or(c, and_i(right16<2>(a), top)));
      put(mins_ + 64 + at, low4_or(right16<4>(c), and_i(right16<2>(b), top)));
    }
    // Not in registers, which are for the columns.
    asm("" : "+m"(scales_), "+m"(mins_), "+m"(d_), "+m"(min_));
  }
  /// Ends group G, whose quants are `unit` apart.
  template <int G, typename S>
  WEFT_INLINE void end(int row, float unit, S& sink) const {
    const V d = d_[row / kLanes];
    sink.shift(G, min_[row / kLanes] * to_float(from_u8(mins_ + G * 16 + row)));
    sink.scale(G, (unit == 1 ? d : times(d, unit)) * to_float(from_u8(scales_ + G * 16 + row)));
  }

 private:
  static WEFT_INLINE void put(std::byte* to, I v) { __builtin_memcpy(to, &v, sizeof v); }

  V d_[kRowParts], min_[kRowParts];
  alignas(64) std::byte scales_[128], mins_[128];
};

template <>
struct Rows16<Format::q4_K> {
  static constexpr int kElems = 256, kSums = 8, kBytes = 16 * 144;
  static constexpr int kBits = 4;
  static constexpr bool kShifts = true, kBegins = false, kHalves = false;
  static constexpr int kStep = kPair;
  using State = ScalesK;
  template <int kAt, int kN, typename S>
  static WEFT_INLINE void step(const std::byte* p, int row, const State& scales, S& sink) {
    unroll<8>([&](auto i) WEFT_LAMBDA {
      const I w = loaded(unit(p + 256, kAt / 2 * 8 + i.value, row));
      unroll<kN>([&](auto j) WEFT_LAMBDA {
        constexpr int kGroup = kAt + j.value;
        sink.nibbles(kGroup % 2 ? high_nibbles(w) : low4(w), 32 * kGroup + 4 * i.value);
      });
    });
    unroll<kN>([&](auto j) WEFT_LAMBDA { scales.end<kAt + j.value>(row, (kAt + j.value) % 2 ? kHighUnit : 1, sink); });
  }
};
template <>
struct Rows16<Format::q5_K> {
  static constexpr int kElems = 256, kSums = 8, kBytes = 16 * 176;
  static constexpr int kBits = 5;
  static constexpr bool kShifts = true, kBegins = false, kHalves = false;
  static constexpr int kStep = kPair;
  using State = ScalesK;
  template <int kAt, int kN, typename S>
  static WEFT_INLINE void step(const std::byte* p, int row, const State& scales, S& sink) {
    unroll<8>([&](auto i) WEFT_LAMBDA {
      const I bits = loaded(unit(p + 256, 2 * i.value, row));
      const I w = loaded(unit(p + 256, kAt < 2 ? 2 * i.value + 1 : kAt / 2 * 8 + 8 + i.value, row));
      unroll<kN>([&](auto j) WEFT_LAMBDA {
        constexpr int kGroup = kAt + j.value;
        const I fifth = and_i(
            kGroup < 4 ? left16<(kGroup < 4 ? 4 - kGroup : 0)>(bits) : right16<(kGroup < 4 ? 0 : kGroup - 4)>(bits),
            set_i8(16));
        sink.dot(low4_or(kGroup % 2 ? right16<4>(w) : w, fifth), 32 * kGroup + 4 * i.value);
      });
    });
    unroll<kN>([&](auto j) WEFT_LAMBDA { scales.end<kAt + j.value>(row, 1, sink); });
  }
};
/// The f16 scale of a block, at kOffset.
template <int kOffset>
class ScaleOfBlock {
 public:
  WEFT_INLINE explicit ScaleOfBlock(const std::byte* p) {
    for (int part = 0; part < kRowParts; ++part) d_[part] = f16_of(p + kOffset, part * kLanes);
  }
  WEFT_INLINE V d(int row) const { return d_[row / kLanes]; }

 private:
  V d_[kRowParts];
};

template <>
struct Rows16<Format::q6_K> {
  static constexpr int kElems = 256, kSums = 16, kBytes = 16 * 210;
  static constexpr int kBits = 6;
  static constexpr bool kShifts = false, kBegins = false, kHalves = true;
  static constexpr int kStep = 2 * kPair;
  using State = ScaleOfBlock<0>;
  /// Sums 8 h + 4 r to 8 h + 4 r + 3: half r of the quarters of half h of the block.
  static constexpr int group_of(int sum) { return sum / 8 * 4 + sum % 4; }
  static constexpr int half_of(int sum) { return sum / 4 % 2; }
  template <int kAt, int kN, typename S>
  static WEFT_INLINE void step(const std::byte* p, int row, const State& state, S& sink) {
    constexpr int kHalf = half_of(kAt);
    const std::byte* qs = p + 288 + kAt / 8 * 1536;
    unroll<4>([&](auto i) WEFT_LAMBDA {
      constexpr int kUnit = 4 * kHalf + i.value;
      const I high = loaded(unit(qs, 3 * kUnit, row));
      const I lows[2] = {loaded(unit(qs, 3 * kUnit + 1, row)), loaded(unit(qs, 3 * kUnit + 2, row))};
      unroll<kN>([&](auto j) WEFT_LAMBDA {
        constexpr int kGroup = group_of(kAt + j.value), kQuarter = kGroup % 4;
        const I low = lows[kQuarter % 2];
        const I top = kQuarter < 2 ? left32<4 - 2 * (kQuarter % 2)>(high) : right16<2 * (kQuarter % 2)>(high);
        if constexpr (i.value == 0) sink.half_less32(kGroup, kHalf);
        sink.dot(low4_or(kQuarter < 2 ? low : right16<4>(low), and_i(top, set_i8(0x30))), 32 * kGroup + 4 * kUnit);
      });
    });
    unroll<kN>([&](auto j) WEFT_LAMBDA {
      constexpr int kGroup = group_of(kAt + j.value);
      sink.half_scale(kGroup, kHalf, state.d(row) * to_float(from_i8(p + 32 + 16 * (2 * kGroup + kHalf) + row)));
    });
  }
};
template <>
struct Rows16<Format::iq4_xs> {
  static constexpr int kElems = 256, kSums = 8, kBytes = 16 * 136;
  static constexpr int kBits = 8;
  static constexpr bool kShifts = false, kBegins = kBias != 0, kHalves = false;
  static constexpr int kStep = 1;
  using State = ScaleOfBlock<0>;
  template <int kAt, int kN, typename S>
  static WEFT_INLINE void step(const std::byte* p, int row, const State& state, S& sink) {
    if constexpr (kBegins) sink.begin(kAt);
    levels32<32 * kAt>(p + 128 + kAt * 256, row, load_as<__m128i>(kLevelsIQ4), sink);
    const I low = from_u8(p + 64 + kAt / 2 * 16 + row), high = from_u16(p + 32 + row * 2);
    const I code =
        or_i(and_i(kAt % 2 ? right32<4>(low) : low, set_i32(15)), left32<4>(and_i(right32<2 * kAt>(high), set_i32(3))));
    const V scale = state.d(row) * to_float(add_i32(code, set_i32(-32)));
    if constexpr (kBias != 0) sink.shift(kAt, times(scale, -kBias));
    sink.scale(kAt, scale);
  }
};

/// The columns of a sum; and which group, and half of it where it has one, a sum of a block is of.
template <Format F>
inline constexpr int kSumColumns = Rows16<F>::kElems / Rows16<F>::kSums;
template <Format F>
constexpr int group_of(int sum) {
  if constexpr (Rows16<F>::kHalves) return Rows16<F>::group_of(sum);
  return sum;
}
template <Format F>
constexpr int half_of(int sum) {
  if constexpr (Rows16<F>::kHalves) return Rows16<F>::half_of(sum);
  return 0;
}

}  // namespace weft::cpu::WEFT_ISA
