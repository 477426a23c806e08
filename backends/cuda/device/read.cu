// Four 16-byte loads in flight a thread, 2048 threads an SM.
#include "backends/cuda/device/read.h"

#include "backends/cuda/device/launch.cuh"

namespace weft::cuda {
namespace {

__global__ void read(uint4* memory, int64_t n) {
  const int64_t stride = n_threads();
  uint32_t seen = 0;
  int64_t i = thread_index();
  for (; i + 3 * stride < n; i += 4 * stride) {
    const uint4 a = __ldcs(memory + i), b = __ldcs(memory + i + stride), c = __ldcs(memory + i + 2 * stride),
                d = __ldcs(memory + i + 3 * stride);
    seen ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
  }
  for (; i < n; i += stride) seen ^= memory[i].x;
  if (seen == 0x9E3779B9u) memory[0].x = seen;  // never, and the compiler cannot know
}

}  // namespace

void launch_read(void* memory, size_t bytes, cudaStream_t stream) {
  read<<<static_cast<unsigned>(sm_count()) * 8, kThreads, 0, stream>>>(static_cast<uint4*>(memory),
                                                                       static_cast<int64_t>(bytes / 16));
}

bool has_code() {
  cudaFuncAttributes attributes{};
  const bool found = cudaFuncGetAttributes(&attributes, read) == cudaSuccess;
  cudaGetLastError();
  return found;
}

}  // namespace weft::cuda
