// iq3_xxs: 256 elements in 98 bytes, 64 rows of 4 from a codebook of 256, a scale for every 8 rows.
//
//   byte 0..1    d, f16
//   byte 2..65   qs: byte r is the number of row r
//   byte 66..97  8 u32: bits 7l .. 7l + 6 of word g are the sign code of rows 8g + 2l and 8g + 2l + 1 together, bits
//                28..31 the scale s of rows 8g .. 8g + 7
//   value        +-d * (s + 0.5) / 2 * kLevelsIQ3_XXS[code], codes by kRowsIQ3_XXS, signs as in iq2_xxs
//
// Source: the GGUF format's IQ3_XXS (ggml type 18).
#pragma once

#include "ops/quant/block.h"
#include "ops/quant/iq_grids.h"

namespace weft::quant {

struct BlockIQ3_XXS {
  static constexpr size_t kElems = 256;
  uint16_t d;
  uint8_t qs[64];
  uint16_t signs_scales[16];

  constexpr void decode(float* y) const {
    for (size_t g = 0; g < 8; ++g) {
      const uint32_t word = signs_scales[2 * g] | static_cast<uint32_t>(signs_scales[2 * g + 1]) << 16;
      const float scale = f16_to_f32(d) * (static_cast<float>(word >> 28) + 0.5f) * 0.5f;
      for (size_t r = 0; r < 8; ++r) {
        const unsigned signs = signs_of(word >> 7 * (r / 2)) >> r % 2 * 4;
        decode_signed_row<4>(y + g * 32 + r * 4, scale, kRowsIQ3_XXS[qs[g * 8 + r]], kLevelsIQ3_XXS, signs);
      }
    }
  }
};
static_assert(sizeof(BlockIQ3_XXS) == 98);

inline constexpr TypeTraits iq3_xxs = block_traits<BlockIQ3_XXS>("iq3_xxs", 18);

}  // namespace weft::quant
