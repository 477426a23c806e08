// q4_K: 256 elements in 144 bytes, 8 groups of 32.
//
//   byte 0..1     d, f16
//   byte 2..3     dmin, f16
//   byte 4..15    scales: 8 six-bit scales s and 8 six-bit mins m, see ScalesK
//   byte 16..143  qs: byte 32 p + l holds element l of group 2p (low nibble) and of group 2p + 1 (high nibble)
//   value         d * s * q - dmin * m, q in 0..15
//
// Source: the GGUF format's Q4_K (ggml type 12).
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

/// Scales and mins of q4_K and q5_K, bytes b:
///   b[0..3]   bits 0..5: scale of group j, bits 6, 7: bits 4, 5 of the scale of group j + 4
///   b[4..7]   the same for mins
///   b[8..11]  low nibble: bits 0..3 of the scale of group j + 4, high nibble: of its min
struct ScalesK {
  uint8_t b[12];

  constexpr int scale(size_t g) const { return g < 4 ? b[g] & 63 : (b[g + 4] & 0xF) | b[g - 4] >> 6 << 4; }
  constexpr int min(size_t g) const { return g < 4 ? b[g + 4] & 63 : b[g + 4] >> 4 | b[g] >> 6 << 4; }

  void set(const std::array<int, 8>& s, const std::array<int, 8>& m) {
    for (size_t g = 0; g < 4; ++g) {
      b[g] = static_cast<uint8_t>(s[g] | s[g + 4] >> 4 << 6);
      b[g + 4] = static_cast<uint8_t>(m[g] | m[g + 4] >> 4 << 6);
      b[g + 8] = static_cast<uint8_t>((s[g + 4] & 0xF) | (m[g + 4] & 0xF) << 4);
    }
  }
};

struct BlockQ4_K {
  static constexpr size_t kElems = 256, kGroups = 8;
  uint16_t d, dmin;
  ScalesK scales;
  uint8_t qs[128];

  constexpr void decode_group(float* y, size_t g) const {
    const float ds = f16_to_f32(d) * static_cast<float>(scales.scale(g));
    const float dm = f16_to_f32(dmin) * static_cast<float>(scales.min(g));
    const uint8_t* bytes = qs + g / 2 * 32;
    for (size_t l = 0; l < 32; ++l) y[l] = ds * static_cast<float>(bytes[l] >> g % 2 * 4 & 0xF) - dm;
  }
  constexpr void decode(float* y) const { decode_groups(*this, y); }

  void encode(const float* x, const float* importance) {
    const Samples<256> s(x, importance);
    const auto fit = fit_affine_groups<8, 32>(s, 15, 63, 4, 0.09f);
    d = fit.d, dmin = fit.dmin;
    scales.set(fit.s, fit.m);
    for (size_t p = 0; p < 4; ++p) {
      for (size_t l = 0; l < 32; ++l) {
        const size_t i = p * 64 + l;
        qs[p * 32 + l] = static_cast<uint8_t>(fit.code<32>(s, i, 15) | fit.code<32>(s, i + 32, 15) << 4);
      }
    }
  }
};
static_assert(sizeof(BlockQ4_K) == 144);

inline constexpr TypeTraits q4_K = block_traits<BlockQ4_K>("q4_K", 12);

}  // namespace weft::quant
