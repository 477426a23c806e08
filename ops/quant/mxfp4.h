// mxfp4: 32 elements in 17 bytes, 4-bit floats with a shared power of two.
//
//   byte 0       e: the scale is 2^(e - 127), e = 255 included
//   byte 1..16   qs: byte j holds element j in its low nibble and element j + 16 in its high nibble
//   value        2^(e - 127) * E2M1[q]; q = 8 is +0, as ggml reads it
//
// Source: OCP Microscaling Formats 1.0 (E8M0 scale, E2M1 element) in the GGUF format's MXFP4 (ggml type 39). OCP has
// e = 255 for NaN; ggml has no such case.
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

/// E2M1 doubled, an integer; the scale is halved in return, which keeps it finite.
WEFT_TABLE std::array<int8_t, 16> kLevelsMXFP4 = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

struct BlockMXFP4 {
  static constexpr size_t kElems = 32;
  uint8_t e;
  uint8_t qs[16];

  constexpr float half_scale() const {  // 2^(e - 128), subnormal for e < 2
    return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
  }

  constexpr void decode(float* y) const {
    const float scale = half_scale();
    for (size_t i = 0; i < 32; ++i) y[i] = scale * static_cast<float>(kLevelsMXFP4[static_cast<size_t>(nibble(qs, i))]);
  }

  void encode(const float* x, const float* importance) {
    constexpr int kLargest = 252;  // 6 * 2^(252 - 127) is finite
    const Samples<32> s(x, importance, 0x1.8p127f);
    float most = 0.0f;
    for (const float v : s.x) most = std::max(most, std::abs(v));
    const int spans = most > 0 ? std::ilogb(most) - 2 + 127 : 0;  // most lies in [4, 8) * scale
    double best_error = std::numeric_limits<double>::infinity();
    int best = 0;
    for (int exponent = std::clamp(spans - 1, 0, kLargest); exponent <= std::clamp(spans + 1, 0, kLargest);
         ++exponent) {
      const float inverse = inverse_scale(exponent);
      float error = 0.0f;
      for (size_t i = 0; i < 32; ++i) {
        const float v = s.x[i] * inverse, off = v - 0.5f * static_cast<float>(kLevelsMXFP4[code(v)]);
        error += s.w[i] * off * off;
      }
      const double in_place = std::ldexp(double{error}, 2 * (exponent - spans));
      if (in_place < best_error) best_error = in_place, best = exponent;
    }
    e = static_cast<uint8_t>(best);
    pack_nibbles(qs, [&](size_t i) { return static_cast<int>(code(s.x[i] * inverse_scale(best))); });
  }

 private:
  /// 2^(127 - e) for e <= 252.
  static float inverse_scale(int e) { return std::bit_cast<float>(static_cast<uint32_t>(254 - e) << 23); }

  /// Nearest E2M1, ties to the even code, saturating at 6.
  static size_t code(float v) {
    const float a = std::abs(v);
    const int q = (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) + (a >= 3.5f) + (a > 5.0f);
    return static_cast<size_t>(v < 0 && q > 0 ? q + 8 : q);
  }
};
static_assert(sizeof(BlockMXFP4) == 17);

inline constexpr TypeTraits mxfp4 = block_traits<BlockMXFP4>("mxfp4", 39);

}  // namespace weft::quant
