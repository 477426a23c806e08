// q4_1: 32 elements in 20 bytes.
//
//   byte 0..1    d, f16
//   byte 2..3    m, f16
//   byte 4..19   qs: byte j holds element j in its low nibble and element j + 16 in its high nibble
//   value        d * q + m, q in 0..15
//
// Source: the GGUF format's Q4_1 (ggml type 3).
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

struct BlockQ4_1 {
  static constexpr size_t kElems = 32;
  uint16_t d, m;
  uint8_t qs[16];

  constexpr void decode(float* y) const {
    const float scale = f16_to_f32(d), min = f16_to_f32(m);
    for (size_t i = 0; i < 32; ++i) y[i] = scale * static_cast<float>(nibble(qs, i)) + min;
  }

  void encode(const float* x, const float* importance) {
    const Samples<32> s(x, importance);
    const StoredAffine fit = fit_stored_affine<32>(s, 15, 4, 0.08f);
    d = fit.d, m = fit.m;
    pack_nibbles(qs, [&](size_t i) { return fit.code(s.x[i], 15); });
  }
};
static_assert(sizeof(BlockQ4_1) == 20);

inline constexpr TypeTraits q4_1 = block_traits<BlockQ4_1>("q4_1", 3);

}  // namespace weft::quant
