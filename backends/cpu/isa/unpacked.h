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
    WEFT_INLINE void begin(int) {}
    WEFT_INLINE void shift(int group, V by) {
      if constexpr (Block::kShifts) to[first + group].shift = by;
    }
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
      Products<Block::kBits> sums[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        sums[t].begin(Block::kHalves ? x[t * stride].less32[scale.value] : Block::kBegins ? x[t * stride].less128 : 0);
#pragma GCC unroll 8
      for (int i = 0; i < kPart; ++i) {
        const I q = group.q[scale.value * kPart + i];
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) sums[t].add(i, q, broadcast4(x[t * stride].q + (scale.value * kPart + i) * 4));
      }
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        acc[t] = fma(to_float(sums[t].sums) * group.factor[scale.value], set(x[t * stride].d), acc[t]);
      }
    });
  }

  Group parts_[kParts][kGroups];
};

}  // namespace weft::cpu::WEFT_ISA
