// Quantized weights times a few vectors, by tensor cores: from one token to kSkinnyTokens.
#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/device/gemv.h"

namespace weft::cuda {

constexpr int64_t kSkinnyTokens = 64;

/// Whether weights of that type, k columns, run here: in planes (ops/quant/planes.h) or, q4_K and q5_K, as they are.
bool skinny_reads(uint32_t type, int64_t k);
/// At most kSkinnyTokens. f16 activations and weights, f32 sums.
void launch_skinny(const GemvArgs& args, cudaStream_t stream);
/// Whether all of them go by launch_staged: GemvArgs::made and `largest` need that.
bool skinny_stages(const GemvArgs& args);

}  // namespace weft::cuda
