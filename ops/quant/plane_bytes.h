// The arithmetic of planes.h, for device code too.
#pragma once

#include <cstddef>

namespace weft::quant {

constexpr size_t kPlaneAlignment = 256;

/// Where the plane after one of n_blocks * field_bytes begins.
constexpr size_t plane_bytes(size_t n_blocks, size_t field_bytes) {
  return (n_blocks * field_bytes + kPlaneAlignment - 1) / kPlaneAlignment * kPlaneAlignment;
}

}  // namespace weft::quant
