// CUDA's return codes as errors.
#pragma once

#include <cuda_runtime_api.h>

#include "graph/error.h"

namespace weft::cuda {

/// Throws Error: what was done, and what CUDA says of it.
inline void check(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next call reports it again
  fail("cuda: {}: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status));
}

}  // namespace weft::cuda
