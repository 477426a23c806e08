// iq2_s: 256 elements in 82 bytes, 32 rows of 8 from a codebook of 1024, a scale for every 2 rows.
//
//   byte 0..1    d, f16
//   byte 2..33   qs: bits 0..7 of the number of row r
//   byte 34..65  signs: bit i of byte r is set if element i of row r is negative
//   byte 66..73  qh: bits 2 (r % 4), 2 (r % 4) + 1 of byte r / 4 are bits 8, 9 of the number of row r
//   byte 74..81  scales: nibble r / 2, low one first, is the scale s of row r
//   value        +-d * (s + 0.5) / 4 * kLevelsIQ2[code], codes by kRowsIQ2_S
//
// Source: the GGUF format's IQ2_S (ggml type 22).
#pragma once

#include "ops/quant/block.h"
#include "ops/quant/iq_grids.h"

namespace weft::quant {

struct BlockIQ2_S {
  static constexpr size_t kElems = 256;
  uint16_t d;
  uint8_t qs[32];
  uint8_t signs[32];
  uint8_t qh[8];
  uint8_t scales[8];

  constexpr void decode(float* y) const {
    for (size_t r = 0; r < 32; ++r) {
      const int s = scales[r / 4] >> r / 2 % 2 * 4 & 0xF;
      const float scale = f16_to_f32(d) * (static_cast<float>(s) + 0.5f) * 0.25f;
      const unsigned row = qs[r] | (static_cast<unsigned>(qh[r / 4]) >> r % 4 * 2 & 3) << 8;
      decode_signed_row<8>(y + r * 8, scale, kRowsIQ2_S[row], kLevelsIQ2, signs[r]);
    }
  }
};
static_assert(sizeof(BlockIQ2_S) == 82);

inline constexpr TypeTraits iq2_s = block_traits<BlockIQ2_S>("iq2_s", 22);

}  // namespace weft::quant
