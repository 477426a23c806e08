// NVIDIA GPUs. The backend is a module, libweft_cuda.so beside libweft, so that one build runs on machines with and
// without a driver.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "graph/backend.h"

namespace weft {

struct CudaOptions {
  size_t memory_limit = SIZE_MAX;  // bytes of each device that may be used
};

/// The CUDA devices of this machine; without a driver, a module or a device, a backend that has none and says why.
std::unique_ptr<Backend> load_cuda_backend(const CudaOptions& options = {});

/// What the module exports under the name kCudaModuleEntry. The name changes with graph/backend.h.
using CudaModuleEntry = Backend* (*)(const CudaOptions& options, std::string& why_not);
inline constexpr const char* kCudaModuleEntry = "weft_cuda_backend_6";

}  // namespace weft
