// iq1_s: 256 elements in 50 bytes, 8 groups of 32, each 4 rows of 8 from a codebook of 2048.
//
//   byte 0..1    d, f16
//   byte 2..33   qs: byte 4g + l is bits 0..7 of the number of row l of group g
//   byte 34..49  qh, u16 for each group: bits 3l .. 3l + 2 are bits 8..10 of the number of row l, bits 12..14 the scale
//                s, bit 15 is set if delta is -1/8 and not 1/8
//   value        d * (2 s + 1) * (code - 1 + delta), codes by kRowsIQ1
//
// Source: the GGUF format's IQ1_S (ggml type 19).
#pragma once

#include "ops/quant/block.h"
#include "ops/quant/iq_grids.h"

namespace weft::quant {

struct BlockIQ1_S {
  static constexpr size_t kElems = 256;
  uint16_t d;
  uint8_t qs[32];
  uint16_t qh[8];

  constexpr void decode(float* y) const {
    for (size_t g = 0; g < 8; ++g) {
      const unsigned high = qh[g];
      const float scale = f16_to_f32(d) * static_cast<float>(2 * (high >> 12 & 7) + 1);
      const float delta = high >> 15 ? -0.125f : 0.125f;
      for (size_t l = 0; l < 4; ++l) {
        const unsigned row = qs[g * 4 + l] | (high >> 3 * l & 7) << 8;
        decode_iq1_row(y + g * 32 + l * 8, scale, kRowsIQ1[row], delta);
      }
    }
  }
};
static_assert(sizeof(BlockIQ1_S) == 50);

inline constexpr TypeTraits iq1_s = block_traits<BlockIQ1_S>("iq1_s", 19);

}  // namespace weft::quant
