// q4_0: 32 elements in 18 bytes.
//
//   byte 0..1    d, f16
//   byte 2..17   qs: byte j holds element j in its low nibble and element j + 16 in its high nibble
//   value        d * (q - 8), q in 0..15
//
// Source: the GGUF format's Q4_0 (ggml type 2).
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

struct BlockQ4_0 {
  static constexpr size_t kElems = 32;
  uint16_t d;
  uint8_t qs[16];

  constexpr void decode(float* y) const {
    const float scale = f16_to_f32(d);
    for (size_t i = 0; i < 32; ++i) y[i] = scale * static_cast<float>(nibble(qs, i) - 8);
  }

  void encode(const float* x, const float* importance) {
    const Samples<32> s(x, importance);
    const IntegerLevels levels{-8, 7};
    d = f16_scale(fit_scale<32>(s.x.data(), s.w.data(), levels, 2, 0.09f));
    const float inverse = inverse_of(d);
    const auto code = [&](size_t i) { return levels(s.x[i] * inverse) + 8; };
    pack_nibbles(qs, code);
  }
};
static_assert(sizeof(BlockQ4_0) == 18);

inline constexpr TypeTraits q4_0 = block_traits<BlockQ4_0>("q4_0", 2);

}  // namespace weft::quant
