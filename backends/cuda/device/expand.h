#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace weft::cuda {

/// A quantized weight [rows, k] of a type that skinny products know, laid out for them, as f16; rows [first, last).
void launch_expand(uint32_t type, const void* weight, int64_t rows, int64_t k, int64_t first, int64_t last,
                   uint16_t* out, cudaStream_t stream);

}  // namespace weft::cuda
