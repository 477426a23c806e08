// iq4_xs: 256 elements in 136 bytes, 8 groups of 32 on the levels of iq4_nl.
//
//   byte 0..1    d, f16
//   byte 2..3    scales_h, u16: bits 2g, 2g + 1 are bits 4, 5 of the scale of group g
//   byte 4..7    scales_l: nibble g, low one first, is bits 0..3 of the scale of group g
//   byte 8..135  qs: byte 16 g + j holds element j of group g in its low nibble and element j + 16 in its high nibble
//   value        d * (s - 32) * kLevelsIQ4[q]
//
// Source: the GGUF format's IQ4_XS (ggml type 23).
#pragma once

#include "ops/quant/fit.h"
#include "ops/quant/iq4_nl.h"

namespace weft::quant {

struct BlockIQ4_XS {
  static constexpr size_t kElems = 256, kGroups = 8;
  uint16_t d;
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];

  constexpr int scale(size_t g) const {
    return ((scales_l[g / 2] >> g % 2 * 4 & 0xF) | (scales_h >> g * 2 & 3) << 4) - 32;
  }

  constexpr void decode_group(float* y, size_t g) const {
    const float ds = f16_to_f32(d) * static_cast<float>(scale(g));
    for (size_t i = 0; i < 32; ++i) {
      const int q = nibble(qs + g * 16, i);
      y[i] = ds * static_cast<float>(kLevelsIQ4[static_cast<size_t>(q)]);
    }
  }
  constexpr void decode(float* y) const { decode_groups(*this, y); }

  void encode(const float* x, const float* importance) {
    const Samples<256> s(x, importance);
    const auto fit = fit_scaled_groups<8, 32>(s, LevelsIQ4{}, -32, 31, 2, 0.12f);
    *this = {};
    d = fit.d;
    for (size_t g = 0; g < 8; ++g) {
      const int code = fit.s[g] + 32;
      scales_l[g / 2] = static_cast<uint8_t>(scales_l[g / 2] | (code & 0xF) << g % 2 * 4);
      scales_h = static_cast<uint16_t>(scales_h | (code >> 4) << g * 2);
      pack_nibbles(qs + g * 16, [&](size_t i) { return LevelsIQ4::code(s.x[g * 32 + i] * fit.inverse(g)); });
    }
  }
};
static_assert(sizeof(BlockIQ4_XS) == 136);

inline constexpr TypeTraits iq4_xs = block_traits<BlockIQ4_XS>("iq4_xs", 23);

}  // namespace weft::quant
