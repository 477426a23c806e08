// iq1_m: 256 elements in 56 bytes, 32 rows of 8 from the codebook of iq1_s, a scale for every 2 rows.
//
//   byte 0..31   qs: byte r is bits 0..7 of the number of row r
//   byte 32..47  qh: nibble r, low one first: bits 0..2 are bits 8..10 of the number of row r, bit 3 is set if the
//                delta of the row is -1/8 and not 1/8
//   byte 48..55  scales, 4 u16: bits 3j .. 3j + 2 of word w are the scale s of rows 8w + 2j and 8w + 2j + 1; bits
//                12..15 are bits 4w .. 4w + 3 of d, an f16
//   value        d * (2 s + 1) * (code - 1 + delta), codes by kRowsIQ1
//
// Source: the GGUF format's IQ1_M (ggml type 29).
#pragma once

#include "ops/quant/block.h"
#include "ops/quant/iq_grids.h"

namespace weft::quant {

struct BlockIQ1_M {
  static constexpr size_t kElems = 256;
  uint8_t qs[32];
  uint8_t qh[16];
  uint16_t scales[4];

  constexpr float d() const {
    unsigned bits = 0;
    for (unsigned w = 0; w < 4; ++w) bits |= static_cast<unsigned>(scales[w] >> 12) << 4 * w;
    return f16_to_f32(static_cast<uint16_t>(bits));
  }

  constexpr void decode(float* y) const {
    const float block_scale = d();
    for (size_t r = 0; r < 32; ++r) {
      const int s = scales[r / 8] >> r % 8 / 2 * 3 & 7;
      const unsigned high = static_cast<unsigned>(qh[r / 2]) >> r % 2 * 4 & 0xF;
      const unsigned row = qs[r] | (high & 7) << 8;
      decode_iq1_row(y + r * 8, block_scale * static_cast<float>(2 * s + 1), kRowsIQ1[row],
                     high & 8 ? -0.125f : 0.125f);
    }
  }
};
static_assert(sizeof(BlockIQ1_M) == 56);

inline constexpr TypeTraits iq1_m = block_traits<BlockIQ1_M>("iq1_m", 29);

}  // namespace weft::quant
