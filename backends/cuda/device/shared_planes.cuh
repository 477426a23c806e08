// A row of weights, or a part of one, in shared memory, plane by plane.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace weft::cuda {

/// What a format of formats.cuh loads units from, as it does from PlaneStarts.
template <int kPlanes>
struct SharedPlanes {
  const unsigned char* at[kPlanes];

  template <typename T>
  __device__ T read(int plane, unsigned offset) const {
    return *reinterpret_cast<const T*>(at[plane] + offset);
  }
  __device__ uint4 load16(int plane, unsigned offset) const { return read<uint4>(plane, offset); }
  __device__ uint2 load8(int plane, unsigned offset) const { return read<uint2>(plane, offset); }
  __device__ uint32_t load4(int plane, unsigned offset) const { return read<uint32_t>(plane, offset); }
  __device__ uint16_t load2(int plane, unsigned offset) const { return read<uint16_t>(plane, offset); }
  __device__ uint8_t load1(int plane, unsigned offset) const { return read<uint8_t>(plane, offset); }
};

}  // namespace weft::cuda
