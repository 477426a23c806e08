// q8_0: 32 elements in 34 bytes.
//
//   byte 0..1    d, f16
//   byte 2..33   qs, i8: one element each
//   value        d * q
//
// Source: the GGUF format's Q8_0 (ggml type 8). The encoder scales by max|x| / 127, which is fast and near the best;
// importance adds a search.
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

struct BlockQ8_0 {
  static constexpr size_t kElems = 32;
  uint16_t d;
  int8_t qs[32];

  constexpr void decode(float* y) const {
    const float scale = f16_to_f32(d);
    for (size_t j = 0; j < 32; ++j) y[j] = scale * static_cast<float>(qs[j]);
  }

  void encode(const float* x, const float* importance) {
    if (importance) {
      const Samples<32> s(x, importance);
      const float scale = fit_scale<32>(s.x.data(), s.w.data(), IntegerLevels{-127, 127}, 4, 0.02f);
      return encode_at(x, scale);
    }
    int32_t largest = 0;  // magnitudes order like their bits; NaN is above infinity and does not count
    for (size_t j = 0; j < 32; ++j) {
      const int32_t bits = std::bit_cast<int32_t>(x[j]) & 0x7FFFFFFF;
      const int32_t magnitude = bits > 0x7F800000 ? 0 : bits;
      largest = magnitude > largest ? magnitude : largest;
    }
    encode_at(x, std::bit_cast<float>(largest) / 127.0f);
  }

 private:
  void encode_at(const float* x, float scale) {
    d = f16_scale(scale);
    const float inverse = inverse_of(d);
    for (size_t j = 0; j < 32; ++j) {
      const float v = x[j] == x[j] ? x[j] : 0.0f;
      qs[j] = static_cast<int8_t>(round_within(v * inverse, -127, 127));
    }
  }
};
static_assert(sizeof(BlockQ8_0) == 34);

inline constexpr TypeTraits q8_0 = block_traits<BlockQ8_0>("q8_0", 8);

}  // namespace weft::quant
