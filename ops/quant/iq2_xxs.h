// iq2_xxs: 256 elements in 66 bytes, 8 groups of 32, each 4 rows of 8 from a codebook of 256.
//
//   byte 0..1             d, f16
//   byte 2+8g .. 5+8g     row numbers of group g: byte l is elements 8l .. 8l + 7
//   byte 6+8g .. 9+8g     u32: bits 7l .. 7l + 6 are the sign code of row l, bits 28..31 the scale s of the group
//   value                 +-d * (s + 0.5) / 4 * kLevelsIQ2[code], codes by kRowsIQ2_XXS
//
// A sign code gives the signs of elements 0..6 of its row, 1 for minus; element 7 makes the number of minuses even.
//
// Source: the GGUF format's IQ2_XXS (ggml type 16).
#pragma once

#include "ops/quant/block.h"
#include "ops/quant/iq_grids.h"

namespace weft::quant {

struct BlockIQ2_XXS {
  static constexpr size_t kElems = 256;
  struct Group {
    uint8_t rows[4];
    uint16_t signs_scale[2];
  };
  uint16_t d;
  Group groups[8];

  constexpr void decode(float* y) const {
    for (const Group& g : groups) {
      const uint32_t word = g.signs_scale[0] | static_cast<uint32_t>(g.signs_scale[1]) << 16;
      const float scale = f16_to_f32(d) * (static_cast<float>(word >> 28) + 0.5f) * 0.25f;
      for (size_t l = 0; l < 4; ++l, y += 8)
        decode_signed_row<8>(y, scale, kRowsIQ2_XXS[g.rows[l]], kLevelsIQ2, signs_of(word >> 7 * l));
    }
  }
};
static_assert(sizeof(BlockIQ2_XXS) == 66);

inline constexpr TypeTraits iq2_xxs = block_traits<BlockIQ2_XXS>("iq2_xxs", 16);

}  // namespace weft::quant
