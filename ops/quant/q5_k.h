// q5_K: 256 elements in 176 bytes, 8 groups of 32.
//
//   byte 0..1     d, f16
//   byte 2..3     dmin, f16
//   byte 4..15    scales: 8 six-bit scales s and 8 six-bit mins m, see ScalesK in q4_k.h
//   byte 16..47   qh: bit g of byte l is bit 4 of element l of group g
//   byte 48..175  qs: bits 0..3; byte 32 p + l holds group 2p in its low nibble and group 2p + 1 in its high nibble
//   value         d * s * q - dmin * m, q in 0..31
//
// Source: the GGUF format's Q5_K (ggml type 13).
#pragma once

#include "ops/quant/fit.h"
#include "ops/quant/q4_k.h"

namespace weft::quant {

struct BlockQ5_K {
  static constexpr size_t kElems = 256, kGroups = 8;
  uint16_t d, dmin;
  ScalesK scales;
  uint8_t qh[32];
  uint8_t qs[128];

  constexpr void decode_group(float* y, size_t g) const {
    const float ds = f16_to_f32(d) * static_cast<float>(scales.scale(g));
    const float dm = f16_to_f32(dmin) * static_cast<float>(scales.min(g));
    const uint8_t* bytes = qs + g / 2 * 32;
    for (size_t l = 0; l < 32; ++l) {
      const int q = (bytes[l] >> g % 2 * 4 & 0xF) | (qh[l] >> g & 1) << 4;
      y[l] = ds * static_cast<float>(q) - dm;
    }
  }
  constexpr void decode(float* y) const { decode_groups(*this, y); }

  void encode(const float* x, const float* importance) {
    const Samples<256> s(x, importance);
    const auto fit = fit_affine_groups<8, 32>(s, 31, 63, 4, 0.07f);
    *this = {};
    d = fit.d, dmin = fit.dmin;
    scales.set(fit.s, fit.m);
    for (size_t i = 0; i < 256; ++i) {
      const int q = fit.code<32>(s, i, 31);
      const size_t g = i / 32, l = i % 32;
      uint8_t& low = qs[g / 2 * 32 + l];
      low = static_cast<uint8_t>(low | (q & 0xF) << g % 2 * 4);
      qh[l] = static_cast<uint8_t>(qh[l] | (q >> 4) << g);
    }
  }
};
static_assert(sizeof(BlockQ5_K) == 176);

inline constexpr TypeTraits q5_K = block_traits<BlockQ5_K>("q5_K", 13);

}  // namespace weft::quant
