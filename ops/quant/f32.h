// f32: IEEE 754 binary32, one value per element. Also i32, which activations use for ids, positions and page tables.
#pragma once

#include "ops/quant/block.h"

namespace weft::quant {

inline constexpr TypeTraits f32{.name = "f32",
                                .id = 0,
                                .block_elems = 1,
                                .block_bytes = 4,
                                .is_float = true,
                                .is_quantized = false,
                                .decode =
                                    [](const std::byte* in, float* out, size_t n) {
                                      if (n > 0)
                                        std::memcpy(out, in, n * sizeof(float));  // of nothing the pointers may be null
                                    },
                                .encode =
                                    [](const float* in, std::byte* out, size_t n, const float*) {
                                      if (n > 0) std::memcpy(out, in, n * sizeof(float));
                                    }};

inline constexpr TypeTraits i32{.name = "i32",
                                .id = 26,
                                .block_elems = 1,
                                .block_bytes = 4,
                                .is_float = false,
                                .is_quantized = false,
                                .decode =
                                    [](const std::byte* in, float* out, size_t n) {
                                      for (size_t i = 0; i < n; ++i) {
                                        int32_t value;
                                        std::memcpy(&value, in + i * sizeof value, sizeof value);
                                        out[i] = static_cast<float>(value);
                                      }
                                    },
                                .encode = nullptr};

}  // namespace weft::quant
