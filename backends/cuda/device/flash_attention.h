// Attention of many tokens on tensor cores.
#pragma once

#include "backends/cuda/device/attention.h"

namespace weft::cuda {

bool flash_reads(uint32_t cache_type, int d);
/// As launch_attend, with f16 operands and f32 sums.
void launch_flash(const AttentionArgs& args, cudaStream_t stream);

}  // namespace weft::cuda
