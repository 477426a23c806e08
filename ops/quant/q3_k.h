// q3_K: 256 elements in 110 bytes, 16 groups of 16.
//
//   byte 0..31     hmask: bit 4 h + r of byte l is bit 2 of element 128 h + 32 r + l
//   byte 32..95    qs: element 128 h + 32 r + l has its bits 0, 1 at bits 2r, 2r + 1 of byte 32 h + l
//   byte 96..107   scales, 6 bits each: low nibbles of bytes 0..7 are bits 0..3 of groups 0..7, high nibbles of groups
//                  8..15; byte 8 + i holds bits 4, 5 of groups i, i + 4, i + 8, i + 12, lowest first
//   byte 108..109  d, f16
//   value          d * (s - 32) * (q - 4), q in 0..7
//
// Source: the GGUF format's Q3_K (ggml type 11).
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

struct BlockQ3_K {
  static constexpr size_t kElems = 256, kGroups = 16;
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  uint16_t d;

  constexpr int scale(size_t g) const {
    const int low = g < 8 ? scales[g] & 0xF : scales[g - 8] >> 4;
    return (low | (scales[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32;
  }

  constexpr void decode_group(float* y, size_t g) const {
    const float ds = f16_to_f32(d) * static_cast<float>(scale(g));
    const size_t plane = g / 2, l0 = g % 2 * 16;  // plane = 4 h + r
    const uint8_t *low = qs + plane / 4 * 32 + l0, *high = hmask + l0;
    for (size_t l = 0; l < 16; ++l) {
      const int q = (low[l] >> plane % 4 * 2 & 3) | (high[l] >> plane & 1) << 2;
      y[l] = ds * static_cast<float>(q - 4);
    }
  }
  constexpr void decode(float* y) const { decode_groups(*this, y); }

  void encode(const float* x, const float* importance) {
    const Samples<256> s(x, importance);
    const IntegerLevels levels{-4, 3};
    const auto fit = fit_scaled_groups<16, 16>(s, levels, -32, 31, 2, 0.18f);
    *this = {};
    d = fit.d;
    for (size_t g = 0; g < 16; ++g) {
      const int code = fit.s[g] + 32;
      scales[g % 8] = static_cast<uint8_t>(scales[g % 8] | (code & 0xF) << g / 8 * 4);
      scales[8 + g % 4] = static_cast<uint8_t>(scales[8 + g % 4] | (code >> 4) << g / 4 * 2);
    }
    for (size_t i = 0; i < 256; ++i) {
      const int q = levels(s.x[i] * fit.inverse(i / 16)) + 4;
      const size_t plane = i / 32, l = i % 32;
      uint8_t& low = qs[plane / 4 * 32 + l];
      low = static_cast<uint8_t>(low | (q & 3) << plane % 4 * 2);
      hmask[l] = static_cast<uint8_t>(hmask[l] | (q >> 2) << plane);
    }
  }
};
static_assert(sizeof(BlockQ3_K) == 110);

inline constexpr TypeTraits q3_K = block_traits<BlockQ3_K>("q3_K", 11);

}  // namespace weft::quant
