// Programmatic dependent launch (Hopper and later): a kernel may start while the one before it still runs, and waits
// for its results only where it needs them. Elsewhere launches follow one another as always.
// Source: CUDA C++ Programming Guide, "Programmatic Dependent Launch and Synchronization".
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "backends/cuda/device/launch.cuh"

namespace weft::cuda {

/// Lets the next kernel start. What it may read before its own wait is weights only.
__device__ inline void let_next_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}
/// Waits until all that was launched before is done and seen. Every kernel launched by launch_dependent calls it before
/// it reads or writes anything but weights.
__device__ inline void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}

/// Both, for a kernel that asks for weights first: the next kernel's blocks come when those of the kernel before are
/// all gone, so that an SM gets one of each. Let in sooner they fill what is free first, two an SM, and the others
/// wait.
__device__ inline void begin_after_previous() {
  wait_for_previous();
  let_next_start();
}

/// What a launch wants beside its grid. A kernel's own attribute would hold for all its launches.
struct LaunchShared {
  size_t bytes;          // dynamic shared memory, a block
  int carveout_percent;  // of an SM's memory that is to be shared memory, not L1; negative: the driver's choice
  unsigned cluster = 1;  // neighbouring blocks that make a cluster, from Hopper on
};

inline cudaLaunchAttribute cluster_of(unsigned blocks) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = blocks;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  return attribute;
}

template <typename... Parameters, typename... Arguments>
void launch_dependent(void (*kernel)(Parameters...), dim3 grid, dim3 block, LaunchShared shared, cudaStream_t stream,
                      Arguments&&... arguments) {
  cudaLaunchAttribute attributes[3] = {};
  unsigned n_attributes = 0;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared.bytes;
  config.stream = stream;
  config.attrs = attributes;
  if (capability_major() >= 9) {
    cudaLaunchAttribute& attribute = attributes[n_attributes++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  if (shared.carveout_percent >= 0) {
    cudaLaunchAttribute& attribute = attributes[n_attributes++];
    attribute.id = cudaLaunchAttributePreferredSharedMemoryCarveout;
    attribute.val.sharedMemCarveout = static_cast<unsigned>(shared.carveout_percent);
  }
  if (shared.cluster > 1) attributes[n_attributes++] = cluster_of(shared.cluster);
  config.numAttrs = n_attributes;
  cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...);
}

template <typename... Parameters, typename... Arguments>
void launch_dependent(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                      Arguments&&... arguments) {
  launch_dependent(kernel, grid, block, LaunchShared{shared_bytes, -1}, stream, std::forward<Arguments>(arguments)...);
}

}  // namespace weft::cuda
