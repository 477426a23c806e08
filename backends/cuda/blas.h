// Matrix products by cuBLASLt, which is looked for when the first is wanted: a machine that runs only small steps does
// without.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>

namespace weft::cuda {

/// Why products cannot run here, or nothing.
std::string why_no_blas();

/// c[m, n] = a[m, k] b[n, k]^T: a, b f16, c f32, rows of ld elements. Chosen once for this shape (one heuristic a shape
/// and process); the result launches it. Throws Error if there is none.
std::function<void(const void* a, const void* b, float* c, cudaStream_t stream)> half_product(int64_t m, int64_t n,
                                                                                              int64_t k, int64_t ldc);

}  // namespace weft::cuda
