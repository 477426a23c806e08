// The products of skinny.h by way of shared memory: weights and activations are copied there while others are
// multiplied.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "backends/cuda/device/gemv.h"

namespace weft::cuda {

/// Tokens of one pass over the weights.
constexpr int64_t kStagedTokens = 32;

/// Bytes of GemvArgs::partial on the current device.
size_t staged_scratch();
/// Launches at most kStagedTokens, or says no: devices before Hopper, too little shared memory, columns that are not
/// whole panels of 256, row blocks that end within what one block of threads takes.
bool launch_staged(const GemvArgs& args, cudaStream_t stream);
/// Whether launch_staged would.
bool staged_takes(const GemvArgs& args);

}  // namespace weft::cuda
