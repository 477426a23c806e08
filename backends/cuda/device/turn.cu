// One block. Bound by the latency of the link: all reads of the host are under way together. Copies by the copy engine
// cost some 8 us each between kernels, of which 5 to 7 are waiting of one engine for the other.
#include "backends/cuda/device/turn.h"

namespace weft::cuda {
namespace {

constexpr unsigned kTurnThreads = 1024;

__global__ void __launch_bounds__(kTurnThreads) turn(const __grid_constant__ TurnArgs a) {
  for (unsigned i = threadIdx.x; i < a.words; i += kTurnThreads) a.to_host[i] = a.from[i];
  const unsigned units = a.head_bytes / 16;
  for (unsigned i = threadIdx.x; i < units; i += kTurnThreads) {
    static_cast<uint4*>(a.head)[i] = __ldcv(static_cast<const uint4*>(a.host_head) + i);
  }
  for (unsigned i = units * 16 + threadIdx.x; i < a.head_bytes; i += kTurnThreads) {
    static_cast<uint8_t*>(a.head)[i] = __ldcv(static_cast<const uint8_t*>(a.host_head) + i);
  }
  if (a.to == nullptr) return;
  __syncthreads();  // the head has been written there
  for (unsigned i = threadIdx.x; i < a.words; i += kTurnThreads) a.to[i] = a.from[i];
}

}  // namespace

void launch_turn(const TurnArgs& args, cudaStream_t stream) { turn<<<1, kTurnThreads, 0, stream>>>(args); }

}  // namespace weft::cuda
