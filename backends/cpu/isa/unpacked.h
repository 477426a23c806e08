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
  static constexpr int kSums = kGroups * kQuantizedElems / kSumColumns<F>;
  static constexpr int kUnits = kSumColumns<F> / 4;  // vectors of a sum

 public:
  static constexpr int64_t kColumns = kGroups * kQuantizedElems;

  /// The next `n` groups of a tile; returns where the packed blocks after them begin.
  const std::byte* unpack(const std::byte* w, int64_t n) {
    for (int64_t g = 0; g < n; g += Block::kElems / kQuantizedElems, w += Block::kBytes) {
      const typename Block::State state(w);
#pragma GCC unroll 1
      for (int part = 0; part < kParts; ++part) {
        Writer writer{parts_[part] + g * kSums / kGroups};
        for_block<F>(w, part * kLanes, state, writer);
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
      const Sum* sum = parts_[part];
#pragma GCC unroll 1
      for (int s = 0; s < static_cast<int>(n) * kSums / kGroups; ++s, ++sum) {
        add<T>(*sum, x + group_of<F>(s), half_of<F>(s), stride, acc);
      }
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) store(sums[t] + part * kLanes, acc[t]);
    }
  }

 private:
  struct Sum {
    I q[kUnits];  // columns 4 i .. 4 i + 3
    V factor, shift;
  };

  /// The sink of for_block, which hands over sum by sum.
  struct Writer {
    Sum* to;

    WEFT_INLINE void put(I q, int i) { to->q[i % kSumColumns<F> / 4] = q; }
    WEFT_INLINE void nibbles(I q, int i) { put(q, i); }
    WEFT_INLINE void dot(I q, int i) { put(q, i); }
    WEFT_INLINE void biased(I q, int i) { put(q, i); }
    WEFT_INLINE void begin(int) {}
    WEFT_INLINE void shift(int, V by) {
      if constexpr (Block::kShifts) to->shift = by;
    }
    WEFT_INLINE void scale(int, V factor) { to++->factor = factor; }
    WEFT_INLINE void half_less32(int, int) {}
    WEFT_INLINE void half_scale(int, int, V factor) { to++->factor = factor; }
  };

  template <int T>
  static WEFT_INLINE void add(const Sum& sum, const QuantizedBlock* x, int half, int64_t stride, V (&acc)[T]) {
    if constexpr (Block::kShifts) {
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) acc[t] = fma(sum.shift, set(x[t * stride].sum), acc[t]);
    }
    Products<Block::kBits> sums[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      sums[t].begin(Block::kHalves ? x[t * stride].less32[half] : Block::kBegins ? x[t * stride].less128 : 0);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kUnits; ++i) {
      const I q = sum.q[i];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sums[t].add(i, q, broadcast4(x[t * stride].q + half * 16 + i * 4));
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[t] = fma(to_float(sums[t].sums) * sum.factor, set(x[t * stride].d), acc[t]);
  }

  Sum parts_[kParts][kSums];
};

}  // namespace weft::cpu::WEFT_ISA
