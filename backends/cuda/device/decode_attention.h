// Attention of a few tokens, in 16-bit arithmetic by the tensor cores: decoding.
#pragma once

#include "backends/cuda/device/attention.h"

namespace weft::cuda {

/// f16, bf16 or q8_0, d one of 64, 80, 96, 128, 256; pages of whole tiles of 16 keys; on the current device.
bool decode_reads(uint32_t cache_type, int64_t d, int64_t page);

/// As attention_splits, of this kernel.
int decode_splits(int64_t tokens, int n_head, int n_kv_head, int64_t most_keys);

/// Appends, then the context.
void launch_decode(const AttentionArgs& args, cudaStream_t stream);

}  // namespace weft::cuda
