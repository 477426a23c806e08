// Quantized weights as f16, for products of many tokens.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace weft::cuda {

/// A weight [rows, k], laid out as skinny.h has it, as f16: rows [first, last). False if it is of another type.
bool launch_expand(uint32_t type, const void* weight, int64_t rows, int64_t k, int64_t first, int64_t last,
                   uint16_t* out, cudaStream_t stream);

}  // namespace weft::cuda
