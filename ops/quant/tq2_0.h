// tq2_0: 256 elements -1, 0 or 1 in 66 bytes, 2 bits each.
//
//   byte 0..63   qs: element 128 h + 32 r + l is bits 2r, 2r + 1 of byte 32 h + l
//   byte 64..65  d, f16
//   value        d * (q - 1), q in 0..2
//
// Source: the GGUF format's TQ2_0 (ggml type 35).
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

struct BlockTQ2_0 {
  static constexpr size_t kElems = 256;
  uint8_t qs[64];
  uint16_t d;

  constexpr void decode(float* y) const {
    const float scale = f16_to_f32(d);
    for (size_t i = 0; i < 256; ++i) {
      const int q = qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
      y[i] = scale * static_cast<float>(q - 1);
    }
  }

  void encode(const float* x, const float* importance) {
    const Samples<256> s(x, importance);
    const IntegerLevels levels{-1, 1};
    *this = {};
    d = f16_scale(std::abs(fit_scale<256>(s.x.data(), s.w.data(), levels, 8, 0.9f)));
    const float inverse = inverse_of(d);
    for (size_t i = 0; i < 256; ++i) {
      uint8_t& byte = qs[i / 128 * 32 + i % 32];
      byte = static_cast<uint8_t>(byte | (levels(s.x[i] * inverse) + 1) << i % 128 / 32 * 2);
    }
  }
};
static_assert(sizeof(BlockTQ2_0) == 66);

inline constexpr TypeTraits tq2_0 = block_traits<BlockTQ2_0>("tq2_0", 35);

}  // namespace weft::quant
