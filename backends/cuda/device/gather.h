// Rows of tables as they are stored: tokens' embeddings with their positions', or rows of activations.
#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/device/extent.h"

namespace weft::cuda {

struct GatherTable {
  const void* data = nullptr;  // [rows, columns]
  uint32_t type = 0;           // TypeTraits::id
  int64_t rows = 0;
  const int32_t* ids = nullptr;  // by row of the result
  int64_t offset = 0;            // added to each
};

/// y[i] = scale * table[ids[i] + offset] + more[its ids[i] + its offset]; a row out of range is zeros.
struct GatherArgs {
  GatherTable table = {};  // of any type
  GatherTable more = {};   // of a type that adds_type() takes; no data: nothing is added
  float scale = 1;
  float* y = nullptr;  // [rows, columns], aligned to 16 bytes
  Extent rows = {};
  int64_t columns = 0;
};

/// f32, f16 and bf16.
bool adds_type(uint32_t type);
void launch_gather(const GatherArgs& args, cudaStream_t stream);

}  // namespace weft::cuda
