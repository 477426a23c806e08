#include "backends/cuda/device/expand.h"

#include <cuda_fp16.h>

#include "backends/cuda/device/formats.cuh"
#include "backends/cuda/device/launch.cuh"

namespace weft::cuda {
namespace {

/// A thread takes 32 columns at a time.
template <typename F>
__global__ void expand(const void* weight, int64_t n_blocks, int64_t first, int64_t n, __half* out) {
  constexpr int kGroups = 32 / F::kGroup, kHalves = F::kUnit / 32, kRuns = kHalves * F::kUnitsPerBlock;
  const PlaneStarts starts = plane_starts<F>(weight, n_blocks);
  for (int64_t i = thread_index(); i < n; i += n_threads()) {
    const int64_t run = first + i;
    const unsigned phase = static_cast<unsigned>(run % kRuns) / kHalves;
    const typename F::Unit unit = F::load(moved<F>(starts, run / kRuns), phase);
    int q[8];
    float scale[kGroups], shift[kGroups];
    if (kHalves == 1 || run % kHalves == 0) F::codes(unit, phase, 0, q, scale, shift);
    else F::codes(unit, phase, 1, q, scale, shift);
    auto* to = reinterpret_cast<uint4*>(out + i * 32);
#pragma unroll
    for (int piece = 0; piece < 4; ++piece) {  // 8 columns
      const int g = piece * 8 / F::kGroup;
      __half2 h[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int c = q[piece * 2 + j / 2] >> (j % 2 * 16);
        const float x0 = static_cast<float>(static_cast<int8_t>(c)),
                    x1 = static_cast<float>(static_cast<int8_t>(c >> 8));
        h[j] = __floats2half2_rn(scale[g] * x0 + shift[g], scale[g] * x1 + shift[g]);
      }
      to[piece] = *reinterpret_cast<uint4*>(h);
    }
  }
}

}  // namespace

bool launch_expand(uint32_t type, const void* weight, int64_t rows, int64_t k, int64_t first, int64_t last,
                   uint16_t* out, cudaStream_t stream) {
  return with_format(type, [&]<typename F>(F) {
    const int64_t runs = k / 32, n = (last - first) * runs;
    expand<F><<<blocks_for(n), kThreads, 0, stream>>>(weight, rows * (k / (F::kUnit * F::kUnitsPerBlock)), first * runs,
                                                      n, reinterpret_cast<__half*>(out));
  });
}

}  // namespace weft::cuda
