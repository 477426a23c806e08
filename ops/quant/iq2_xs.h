// iq2_xs: 256 elements in 74 bytes, 32 rows of 8 from a codebook of 512, a scale for every 2 rows.
//
//   byte 0..1    d, f16
//   byte 2..65   qs, u16 each: bits 0..8 of qs[r] are the number of row r, bits 9..15 its sign code
//   byte 66..73  scales: nibble r / 2, low one first, is the scale s of row r
//   value        +-d * (s + 0.5) / 4 * kLevelsIQ2[code], codes by kRowsIQ2_XS, signs as in iq2_xxs
//
// Source: the GGUF format's IQ2_XS (ggml type 17).
#pragma once

#include "ops/quant/block.h"
#include "ops/quant/iq_grids.h"

namespace weft::quant {

struct BlockIQ2_XS {
  static constexpr size_t kElems = 256;
  uint16_t d;
  uint16_t qs[32];
  uint8_t scales[8];

  constexpr void decode(float* y) const {
    for (size_t r = 0; r < 32; ++r) {
      const int s = scales[r / 4] >> r / 2 % 2 * 4 & 0xF;
      const float scale = f16_to_f32(d) * (static_cast<float>(s) + 0.5f) * 0.25f;
      decode_signed_row<8>(y + r * 8, scale, kRowsIQ2_XS[qs[r] & 0x1FFu], kLevelsIQ2, signs_of(qs[r] >> 9));
    }
  }
};
static_assert(sizeof(BlockIQ2_XS) == 74);

inline constexpr TypeTraits iq2_xs = block_traits<BlockIQ2_XS>("iq2_xs", 17);

}  // namespace weft::quant
