// A token drawn from a row's candidates: ops/sample.h says how.
#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/device/extent.h"

namespace weft::cuda {

constexpr int kMostSampled = 128;  // candidates of a row, and recent tokens of it: a thread each

struct SampleArgs {
  const float* values = nullptr;    // [rows, k]
  const int32_t* tokens = nullptr;  // [rows, k]
  const int32_t* fed = nullptr;     // [rows]
  const int32_t* recent = nullptr;  // [rows, n_recent]
  const float* options = nullptr;   // [rows, 4]: temperature, top_p, min_p, penalty
  const int32_t* draws = nullptr;   // [rows, 3]: top_k, 26 and 27 bits of the number drawn
  Extent rows = {};
  int k = 1, n_recent = 1;    // at most kMostSampled
  int32_t* chosen = nullptr;  // [rows]
};

void launch_sample(const SampleArgs& args, cudaStream_t stream);

}  // namespace weft::cuda
