// q5_1: 32 elements in 24 bytes.
//
//   byte 0..1    d, f16
//   byte 2..3    m, f16
//   byte 4..7    qh, u32: bit i is bit 4 of element i
//   byte 8..23   qs: bits 0..3; byte j holds element j in its low nibble and element j + 16 in its high nibble
//   value        d * q + m, q in 0..31
//
// Source: the GGUF format's Q5_1 (ggml type 7).
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

struct BlockQ5_1 {
  static constexpr size_t kElems = 32;
  uint16_t d, m;
  uint32_t qh;
  uint8_t qs[16];

  constexpr void decode(float* y) const {
    const float scale = f16_to_f32(d), min = f16_to_f32(m);
    for (size_t i = 0; i < 32; ++i) {
      const int q = nibble(qs, i) | static_cast<int>(qh >> i & 1) << 4;
      y[i] = scale * static_cast<float>(q) + min;
    }
  }

  void encode(const float* x, const float* importance) {
    const Samples<32> s(x, importance);
    const StoredAffine fit = fit_stored_affine<32>(s, 31, 4, 0.06f);
    d = fit.d, m = fit.m, qh = 0;
    pack_nibbles(qs, [&](size_t i) {
      const int q = fit.code(s.x[i], 31);
      qh |= static_cast<uint32_t>(q >> 4) << i;
      return q & 0xF;
    });
  }
};
static_assert(sizeof(BlockQ5_1) == 24);

inline constexpr TypeTraits q5_1 = block_traits<BlockQ5_1>("q5_1", 7);

}  // namespace weft::quant
