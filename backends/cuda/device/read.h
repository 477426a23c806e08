// Reads memory and keeps nothing: the measure of what a device's memory gives.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace weft::cuda {

/// `bytes` is taken down to a multiple of 16.
void launch_read(void* memory, size_t bytes, cudaStream_t stream);

/// Whether this build has code for the current device.
bool has_code();

}  // namespace weft::cuda
