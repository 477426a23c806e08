// f16: IEEE 754 binary16, one value per element (ggml type 1). Encoding rounds to nearest even.
#pragma once

#include "ops/quant/block.h"

namespace weft::quant {

inline void decode_f16(const std::byte* in, float* out, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    uint16_t h;
    std::memcpy(&h, in + i * sizeof h, sizeof h);
    out[i] = f16_to_f32(h);
  }
}

inline void encode_f16(const float* in, std::byte* out, size_t n, const float*) {
  for (size_t i = 0; i < n; ++i) {
    const uint16_t h = f32_to_f16(in[i]);
    std::memcpy(out + i * sizeof h, &h, sizeof h);
  }
}

inline constexpr TypeTraits f16{.name = "f16",
                                .id = 1,
                                .block_elems = 1,
                                .block_bytes = 2,
                                .is_float = true,
                                .is_quantized = false,
                                .decode = decode_f16,
                                .encode = encode_f16};

}  // namespace weft::quant
