// iq3_s: 256 elements in 110 bytes, 64 rows of 4 from a codebook of 512, a scale for every 8 rows.
//
//   byte 0..1      d, f16
//   byte 2..65     qs: byte r is bits 0..7 of the number of row r
//   byte 66..73    qh: bit r % 8 of byte r / 8 is bit 8 of the number of row r
//   byte 74..105   signs: bit i % 8 of byte i / 8 is set if element i is negative
//   byte 106..109  scales: nibble r / 8, low one first, is the scale s of row r
//   value          +-d * (2 s + 1) * kLevelsIQ3_S[code], codes by kRowsIQ3_S
//
// Source: the GGUF format's IQ3_S (ggml type 21).
#pragma once

#include "ops/quant/block.h"
#include "ops/quant/iq_grids.h"

namespace weft::quant {

struct BlockIQ3_S {
  static constexpr size_t kElems = 256;
  uint16_t d;
  uint8_t qs[64];
  uint8_t qh[8];
  uint8_t signs[32];
  uint8_t scales[4];

  constexpr void decode(float* y) const {
    for (size_t r = 0; r < 64; ++r) {
      const int s = scales[r / 16] >> r / 8 % 2 * 4 & 0xF;
      const float scale = f16_to_f32(d) * static_cast<float>(2 * s + 1);
      const unsigned row = qs[r] | (static_cast<unsigned>(qh[r / 8]) >> r % 8 & 1) << 8;
      decode_signed_row<4>(y + r * 4, scale, kRowsIQ3_S[row], kLevelsIQ3_S,
                           static_cast<unsigned>(signs[r / 2]) >> r % 2 * 4);
    }
  }
};
static_assert(sizeof(BlockIQ3_S) == 110);

inline constexpr TypeTraits iq3_s = block_traits<BlockIQ3_S>("iq3_s", 21);

}  // namespace weft::quant
