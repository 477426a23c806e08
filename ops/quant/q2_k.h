// q2_K: 256 elements in 84 bytes, 16 groups of 16.
//
//   byte 0..15   scales: group g has its scale s in the low nibble of byte g and its min m in the high nibble
//   byte 16..79  qs: element 128 h + 32 r + l is bits 2r, 2r + 1 of byte 32 h + l
//   byte 80..81  d, f16
//   byte 82..83  dmin, f16
//   value        d * s * q - dmin * m, q in 0..3
//
// Source: the GGUF format's Q2_K (ggml type 10).
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

struct BlockQ2_K {
  static constexpr size_t kElems = 256, kGroups = 16;
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d, dmin;

  constexpr void decode_group(float* y, size_t g) const {
    const float ds = f16_to_f32(d) * static_cast<float>(scales[g] & 0xF);
    const float dm = f16_to_f32(dmin) * static_cast<float>(scales[g] >> 4);
    const uint8_t* bytes = qs + g / 8 * 32 + g % 2 * 16;
    const size_t shift = g % 8 / 2 * 2;
    for (size_t l = 0; l < 16; ++l) y[l] = ds * static_cast<float>(bytes[l] >> shift & 3) - dm;
  }
  constexpr void decode(float* y) const { decode_groups(*this, y); }

  void encode(const float* x, const float* importance) {
    const Samples<256> s(x, importance);
    const auto fit = fit_affine_groups<16, 16>(s, 3, 15, 4, 0.18f);
    *this = {};
    d = fit.d, dmin = fit.dmin;
    for (size_t g = 0; g < 16; ++g) scales[g] = static_cast<uint8_t>(fit.s[g] | fit.m[g] << 4);
    for (size_t i = 0; i < 256; ++i) {
      uint8_t& byte = qs[i / 128 * 32 + i % 32];
      byte = static_cast<uint8_t>(byte | fit.code<16>(s, i, 3) << i % 128 / 32 * 2);
    }
  }
};
static_assert(sizeof(BlockQ2_K) == 84);

inline constexpr TypeTraits q2_K = block_traits<BlockQ2_K>("q2_K", 10);

}  // namespace weft::quant
