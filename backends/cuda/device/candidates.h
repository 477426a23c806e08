// The largest logits of each row: ops/candidates.h says what they are.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "backends/cuda/device/extent.h"

namespace weft::cuda {

constexpr int64_t kMostCandidates = 128;

struct CandidateArgs {
  const float* logits = nullptr;  // [rows, n]
  Extent rows = {};
  int64_t n = 0;
  int k = 1;                     // at most kMostCandidates
  uint64_t* parts = nullptr;     // [rows, parts, k]; none where k is 1
  unsigned* arrivals = nullptr;  // [rows] zeros, and left as zeros
  float* values = nullptr;       // [rows, k]; null: nobody reads them
  int32_t* tokens = nullptr;     // [rows, k]; the same
};

/// Bytes of CandidateArgs::parts.
size_t candidate_parts_bytes(int64_t rows, int64_t n, int64_t k);
void launch_candidates(const CandidateArgs& args, cudaStream_t stream);

}  // namespace weft::cuda
