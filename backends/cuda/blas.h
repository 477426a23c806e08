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

/// Bytes that products have taken on the current device: none before the first.
size_t blas_scratch();

/// c[m, n] = a[m, k] b[n, k]^T, and what c was if it `adds`, and bias[n] if there is one: a, b f16, c and bias f32.
/// Rows of a and b lie one after another, those of c ldc elements apart.
struct HalfProduct {
  int64_t m = 0, n = 0, k = 0, ldc = 0;
  const void *a = nullptr, *b = nullptr;
  float* c = nullptr;
  const float* bias = nullptr;
  bool adds = false;
};

/// What launches it. The algorithm is chosen once a process for a shape, what is added and how far the pointers are
/// aligned. Throws Error if there is none; of one with a bias nothing: that has to be added by other means.
std::function<void(cudaStream_t)> half_product(const HalfProduct& product);

}  // namespace weft::cuda
