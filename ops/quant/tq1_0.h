// tq1_0: 256 elements -1, 0 or 1 in 54 bytes, five to a byte.
//
//   byte 0..47   qs: five base-3 digits a byte. Digit n of byte m < 32 is element 32 n + m, of byte 32 + m element
//                160 + 16 n + m
//   byte 48..51  qh: four digits a byte. Digit n of byte m is element 240 + 4 n + m
//   byte 52..53  d, f16
//   digit n      (b * 3^n mod 256) * 3 / 256: a byte is ceil(t * 256 / 243), t the five digits with digit 0 foremost
//   value        d * (digit - 1)
//
// Source: the GGUF format's TQ1_0 (ggml type 34).
#pragma once

#include "ops/quant/fit.h"

namespace weft::quant {

struct BlockTQ1_0 {
  static constexpr size_t kElems = 256;
  uint8_t qs[48];
  uint8_t qh[4];
  uint16_t d;

  constexpr void decode(float* y) const {
    const float scale = f16_to_f32(d);
    const auto spread = [&](const uint8_t* bytes, size_t count, int digits) {
      for (int n = 0, power = 1; n < digits; ++n, power *= 3)
        for (size_t m = 0; m < count; ++m) *y++ = scale * static_cast<float>(((bytes[m] * power & 0xFF) * 3 >> 8) - 1);
    };
    spread(qs, 32, 5);
    spread(qs + 32, 16, 5);
    spread(qh, 4, 4);
  }

  void encode(const float* x, const float* importance) {
    const Samples<256> s(x, importance);
    const IntegerLevels levels{-1, 1};
    d = f16_scale(std::abs(fit_scale<256>(s.x.data(), s.w.data(), levels, 8, 0.9f)));
    const float inverse = inverse_of(d);
    const float* next = s.x.data();
    const auto gather = [&](uint8_t* bytes, size_t count, size_t digits) {
      for (size_t m = 0; m < count; ++m) {
        int t = 0;
        for (size_t n = 0; n < 5; ++n) t = t * 3 + (n < digits ? levels(next[n * count + m] * inverse) + 1 : 0);
        bytes[m] = static_cast<uint8_t>((t * 256 + 242) / 243);
      }
      next += count * digits;
    };
    gather(qs, 32, 5);
    gather(qs + 32, 16, 5);
    gather(qh, 4, 4);
  }
};
static_assert(sizeof(BlockTQ1_0) == 54);

inline constexpr TypeTraits tq1_0 = block_traits<BlockTQ1_0>("tq1_0", 34);

}  // namespace weft::quant
