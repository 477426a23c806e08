// Kernels that read weights of any type, as they are stored. `type` is TypeTraits::id.
#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/device/extent.h"

namespace weft::cuda {

/// Whether weights of that type can be read here.
bool reads_type(uint32_t type);

/// y[i] = weight elements as f32; n elements, whole blocks.
void launch_decode(uint32_t type, const void* weight, float* y, Extent rows, int64_t columns, cudaStream_t stream);
/// The same as f16, n elements.
void launch_decode_half(uint32_t type, const void* weight, uint16_t* y, int64_t n, cudaStream_t stream);
/// f32 to f32, f16, bf16 (to nearest even) or q8_0.
bool encodes_type(uint32_t type);
void launch_encode(uint32_t type, const float* x, void* y, Extent rows, int64_t columns, cudaStream_t stream);

/// y[t, first_row + n] = dot(x[t, :k], row n), f32; x rows of k, y rows of `y_stride`.
void launch_matmul(uint32_t type, const void* weight, const float* x, float* y, Extent tokens, int64_t n, int64_t k,
                   int64_t y_stride, cudaStream_t stream);
/// y[t, j] = W[ids[t, j]] x[t] (or x[t, j], if `x_by_pick`); weight [experts, n, k]. An id out of range gives zeros.
void launch_indexed_matmul(uint32_t type, const void* weight, int64_t experts, const float* x, bool x_by_pick,
                           const int32_t* ids, float* y, Extent tokens, int64_t picks, int64_t n, int64_t k,
                           cudaStream_t stream);

/// Paged caches [pages, heads, page, d]: ops/state.h.
void launch_append_pages(uint32_t type, void* cache, int64_t pages, int64_t heads, int64_t page, int64_t d,
                         const float* rows, const int32_t* slots, Extent tokens, cudaStream_t stream);
void launch_gather_pages(uint32_t type, const void* cache, int64_t pages, int64_t heads, int64_t page, int64_t d,
                         const int32_t* page_table, const int32_t* lengths, int64_t sequences, int64_t pages_each,
                         float* y, cudaStream_t stream);

}  // namespace weft::cuda
