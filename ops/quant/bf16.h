// bf16: the upper half of an IEEE 754 binary32, one value per element (ggml type 30). Encoding rounds to nearest even.
#pragma once

#include "ops/quant/block.h"

namespace weft::quant {

inline void decode_bf16(const std::byte* in, float* out, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    uint16_t h;
    std::memcpy(&h, in + i * sizeof h, sizeof h);
    out[i] = bf16_to_f32(h);
  }
}

inline void encode_bf16(const float* in, std::byte* out, size_t n, const float*) {
  for (size_t i = 0; i < n; ++i) {
    const uint16_t h = f32_to_bf16(in[i]);
    std::memcpy(out + i * sizeof h, &h, sizeof h);
  }
}

inline constexpr TypeTraits bf16{.name = "bf16",
                                 .id = 30,
                                 .block_elems = 1,
                                 .block_bytes = 2,
                                 .is_float = true,
                                 .is_quantized = false,
                                 .decode = decode_bf16,
                                 .encode = encode_bf16};

}  // namespace weft::quant
