// How fast a device is, measured.
#pragma once

#include <cuda_runtime_api.h>

#include "graph/backend.h"

namespace weft::cuda {

/// Reads of device memory, copies over the link, an f16 product; well under a second. Sets bandwidth_gbps, link_gbps
/// and gflops.
void measure(DeviceInfo& info, cudaStream_t stream);

}  // namespace weft::cuda
