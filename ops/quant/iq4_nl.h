// iq4_nl: 32 elements in 18 bytes, on 16 unevenly spaced levels.
//
//   byte 0..1    d, f16
//   byte 2..17   qs: byte j holds element j in its low nibble and element j + 16 in its high nibble
//   value        d * kLevelsIQ4[q]
//
// Source: the GGUF format's IQ4_NL (ggml type 20).
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

WEFT_TABLE std::array<int8_t, 16> kLevelsIQ4 = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                1,    13,   25,  38,  53,  69,  89,  113};

/// Nearest of kLevelsIQ4 by a table of half units: halfway points are multiples of 0.5.
class LevelsIQ4 {
 public:
  static constexpr float lo = -127, hi = 113;
  float operator()(float v) const { return kNearest.level[index(v)]; }
  static int code(float v) { return kNearest.code[index(v)]; }

 private:
  struct Nearest {
    float level[512];
    uint8_t code[512];
  };
  static constexpr Nearest kNearest = [] {
    Nearest nearest{};
    for (int half = 0, q = 0; half < 512; ++half) {
      while (q < 15 && half - 256 >= kLevelsIQ4[static_cast<size_t>(q)] + kLevelsIQ4[static_cast<size_t>(q) + 1]) ++q;
      nearest.level[half] = kLevelsIQ4[static_cast<size_t>(q)];
      nearest.code[half] = static_cast<uint8_t>(q);
    }
    return nearest;
  }();
  static int index(float v) {
    const float above = v > -128.0f ? v : -128.0f;
    return static_cast<int>((above < 127.0f ? above : 127.0f) * 2.0f + 256.0f);
  }
};

struct BlockIQ4_NL {
  static constexpr size_t kElems = 32;
  uint16_t d;
  uint8_t qs[16];

  constexpr void decode(float* y) const {
    const float scale = f16_to_f32(d);
    for (size_t i = 0; i < 32; ++i) y[i] = scale * static_cast<float>(kLevelsIQ4[static_cast<size_t>(nibble(qs, i))]);
  }

  void encode(const float* x, const float* importance) {
    const Samples<32> s(x, importance);
    d = f16_scale(fit_scale<32>(s.x.data(), s.w.data(), LevelsIQ4{}, 2, 0.12f));
    const float inverse = inverse_of(d);
    pack_nibbles(qs, [&](size_t i) { return LevelsIQ4::code(s.x[i] * inverse); });
  }
};
static_assert(sizeof(BlockIQ4_NL) == 18);

inline constexpr TypeTraits iq4_nl = block_traits<BlockIQ4_NL>("iq4_nl", 20);

}  // namespace weft::quant
