// q5_0: 32 elements in 22 bytes.
//
//   byte 0..1    d, f16
//   byte 2..5    qh, u32: bit i is bit 4 of element i
//   byte 6..21   qs: bits 0..3; byte j holds element j in its low nibble and element j + 16 in its high nibble
//   value        d * (q - 16), q in 0..31
//
// Source: the GGUF format's Q5_0 (ggml type 6).
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

struct BlockQ5_0 {
  static constexpr size_t kElems = 32;
  uint16_t d;
  uint16_t qh[2];  // low half first: the u32 is not aligned
  uint8_t qs[16];

  constexpr void decode(float* y) const {
    const float scale = f16_to_f32(d);
    for (size_t i = 0; i < 32; ++i) {
      const int q = nibble(qs, i) | (qh[i / 16] >> i % 16 & 1) << 4;
      y[i] = scale * static_cast<float>(q - 16);
    }
  }

  void encode(const float* x, const float* importance) {
    const Samples<32> s(x, importance);
    const IntegerLevels levels{-16, 15};
    d = f16_scale(fit_scale<32>(s.x.data(), s.w.data(), levels, 2, 0.05f));
    const float inverse = inverse_of(d);
    qh[0] = qh[1] = 0;
    pack_nibbles(qs, [&](size_t i) {
      const int q = levels(s.x[i] * inverse) + 16;
      qh[i / 16] = static_cast<uint16_t>(qh[i / 16] | (q >> 4) << i % 16);
      return q & 0xF;
    });
  }
};
static_assert(sizeof(BlockQ5_0) == 22);

inline constexpr TypeTraits q5_0 = block_traits<BlockQ5_0>("q5_0", 6);

}  // namespace weft::quant
