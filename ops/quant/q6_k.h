// q6_K: 256 elements in 210 bytes, 16 groups of 16.
//
//   byte 0..127    ql, bits 0..3: element 128 h + 64 v + 32 u + l is the low (v = 0) or high (v = 1) nibble of byte
//                  64 h + 32 u + l
//   byte 128..191  qh, bits 4, 5: element 128 h + 32 r + l has them at bits 2r, 2r + 1 of byte 32 h + l
//   byte 192..207  scales s, i8, one a group
//   byte 208..209  d, f16
//   value          d * s * (q - 32), q in 0..63
//
// Source: the GGUF format's Q6_K (ggml type 14).
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

struct BlockQ6_K {
  static constexpr size_t kElems = 256, kGroups = 16;
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;

  constexpr void decode_group(float* y, size_t g) const {
    const float ds = f16_to_f32(d) * static_cast<float>(scales[g]);
    const size_t h = g / 8, r = g % 8 / 2, l0 = g % 2 * 16;
    const uint8_t *low = ql + h * 64 + r % 2 * 32 + l0, *high = qh + h * 32 + l0;
    for (size_t l = 0; l < 16; ++l) {
      const int q = (low[l] >> r / 2 * 4 & 0xF) | (high[l] >> r * 2 & 3) << 4;
      y[l] = ds * static_cast<float>(q - 32);
    }
  }
  constexpr void decode(float* y) const { decode_groups(*this, y); }

  void encode(const float* x, const float* importance) {
    const Samples<256> s(x, importance);
    const IntegerLevels levels{-32, 31};
    const auto fit = fit_scaled_groups<16, 16>(s, levels, -128, 127, 2, 0.12f);
    *this = {};
    d = fit.d;
    for (size_t g = 0; g < 16; ++g) scales[g] = static_cast<int8_t>(fit.s[g]);
    for (size_t i = 0; i < 256; ++i) {
      const int q = levels(s.x[i] * fit.inverse(i / 16)) + 32;
      const size_t h = i / 128, r = i % 128 / 32, l = i % 32;
      uint8_t &low = ql[h * 64 + r % 2 * 32 + l], &high = qh[h * 32 + l];
      low = static_cast<uint8_t>(low | (q & 0xF) << r / 2 * 4);
      high = static_cast<uint8_t>(high | (q >> 4) << r * 2);
    }
  }
};
static_assert(sizeof(BlockQ6_K) == 210);

inline constexpr TypeTraits q6_K = block_traits<BlockQ6_K>("q6_K", 14);

}  // namespace weft::quant
