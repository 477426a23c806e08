// How fast a device is, measured.
#pragma once

#include "backends/cuda/steps.h"

namespace weft::cuda {

/// Reads of device memory, copies over the link, an f16 product, products as decoding has them; well under a second.
/// Sets bandwidth_gbps, link_gbps, half_gflops, int8_gops and launch_us. `steps`: empty ones of the device.
void measure(DeviceInfo& info, const CudaSteps& steps);

}  // namespace weft::cuda
