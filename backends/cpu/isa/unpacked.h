// Packed blocks unpacked for many tokens: up to 256 columns of a tile, sixteen rows, as the bytes that are multiplied
// and what they are worth. Made once, in L1, for all tokens; in the products of a token there is nothing left to
// decode. The arithmetic of an element is that of Sink in matmul_packed.cpp, to the bit.
#pragma once

#include "backends/cpu/isa/rows16.h"

namespace weft::cpu::WEFT_ISA {

template <Format F>
class Unpacked {
  using Block = Rows16<F>;
  static constexpr int kRows = 16, kGroups = 8, kParts = kRows / kLanes;
  static constexpr int kScales = Block::kHalves ? 2 : 1;  // of a group
  static constexpr int kUnits = kQuantizedElems / 4;      // vectors of a group
  // Dot products that one sum of 16 bits holds: sixteen of kBits bits by 127, two each.
  static constexpr int kRun = kBias != 0 || Block::kBits <= 4 ? 8 : Block::kBits == 5 ? 4 : Block::kBits == 6 ? 2 : 1;

 public:
  static constexpr int64_t kColumns = kGroups * kQuantizedElems;

  /// The next `n` groups of a tile; returns where the packed blocks after them begin.
  const std::byte* unpack(const std::byte* w, int64_t n) {
    for (int64_t g = 0; g < n; g += Block::kElems / kQuantizedElems, w += Block::kBytes) {
#pragma GCC unroll 1
      for (int part = 0; part < kParts; ++part) {
        Writer writer{parts_[part], g};
        Block::block(w, part * kLanes, writer);
      }
    }
    return w;
  }

  /// Adds the products of n groups of T tokens to their sums.
  template <int T>
  WEFT_INLINE void multiply(const QuantizedBlock* x, int64_t stride, int64_t n, float (*sums)[kRows]) const {
#pragma GCC unroll 1
    for (int part = 0; part < kParts; ++part) {
      V acc[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) acc[t] = load(sums[t] + part * kLanes);
      const QuantizedBlock* blocks = x;
      const Group* group = parts_[part];
#pragma GCC unroll 1
      for (int64_t g = 0; g < n; ++g, ++blocks, ++group) add<T>(*group, blocks, stride, acc);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) store(sums[t] + part * kLanes, acc[t]);
    }
  }

 private:
  struct Group {
    I q[kUnits];  // columns 4 i .. 4 i + 3
    V factor[kScales], shift;
  };

  /// The sink of Rows16<F>::block.
  struct Writer {
    Group* to;
    int64_t first;

    WEFT_INLINE void put(I q, int i) { to[first + i / kQuantizedElems].q[i % kQuantizedElems / 4] = q; }
    WEFT_INLINE void nibbles(I q, int i) { put(q, i); }
    WEFT_INLINE void dot(I q, int i) { put(q, i); }
    WEFT_INLINE void biased(I q, int i) { put(q, i); }
    WEFT_INLINE void shift(int group, V by) { to[first + group].shift = by; }
    WEFT_INLINE void scale(int group, V factor) { to[first + group].factor[0] = factor; }
    WEFT_INLINE void half_less32(int, int) {}
    WEFT_INLINE void half_scale(int group, int half, V factor) { to[first + group].factor[half] = factor; }
  };

  template <int T>
  static WEFT_INLINE void add(const Group& group, const QuantizedBlock* x, int64_t stride, V (&acc)[T]) {
    if constexpr (Block::kShifts) {
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) acc[t] = fma(group.shift, set(x[t * stride].sum), acc[t]);
    }
    constexpr int kPart = kUnits / kScales;
    unroll<kScales>([&](auto scale) WEFT_LAMBDA {
      I sums[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sums[t] = Block::kHalves ? set_i32(x[t * stride].less32[scale.value]) : zero_i();
      unroll<kPart / (kRun < kPart ? kRun : kPart)>([&](auto run) WEFT_LAMBDA {
        constexpr int kLength = kRun < kPart ? kRun : kPart;
        products<T, kLength>(group.q + scale.value * kPart + run.value * kLength,
                             (scale.value * kPart + run.value * kLength) * 4, x, stride, sums);
      });
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        acc[t] = fma(to_float(sums[t]) * group.factor[scale.value], set(x[t * stride].d), acc[t]);
      }
    });
  }

  /// N units from column `at` on.
  template <int T, int N>
  static WEFT_INLINE void products(const I* q, int at, const QuantizedBlock* x, int64_t stride, I (&sums)[T]) {
    I narrow[T];
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const I w = q[i];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const I columns = broadcast4(x[t * stride].q + at + 4 * i);
        if constexpr (Block::kBits == 8) sums[t] = dot_biased(sums[t], w, columns);
        else if constexpr (kBias != 0) sums[t] = dot(sums[t], w, columns);
        else narrow[t] = i == 0 ? products16(w, columns) : dot_nibbles(narrow[t], w, columns);
      }
    }
    if constexpr (Block::kBits != 8 && kBias == 0) {
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sums[t] = add_i32(sums[t], widen(narrow[t]));
    }
  }

  Group parts_[kParts][kGroups];
};

}  // namespace weft::cpu::WEFT_ISA
