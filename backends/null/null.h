// The null backend: devices of invented speed and memory that run nothing. For testing placement and scheduling.
#pragma once

#include <memory>
#include <vector>

#include "graph/backend.h"

namespace weft {

struct NullOptions {
  std::vector<DeviceInfo> devices;
  /// Ops it has no kernel for; every other op has one, fused or primitive.
  std::vector<std::string> without;
  /// What calibrate() finds, by device; empty: what they claim.
  std::vector<DeviceInfo> measured;
};

/// Memory is host memory but counted against each device's memory_bytes; kernels do nothing.
std::unique_ptr<Backend> make_null_backend(NullOptions options);

}  // namespace weft
