// The MLPs of a mixture of experts. A pick is one expert of one token.
#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/device/activations.h"

namespace weft::cuda {

/// y[t] = sum over picks p of t of weights[p] * (act(gate, up) Wdown^T + bias) by expert ids[p]. An id out of range
/// counts for nothing. Matrices of all experts one after the other, quantized ones in planes where they have them.
struct ExpertsArgs {
  uint32_t up_type = 0, down_type = 0;                                         // TypeTraits::id; up_type is gate's too
  const void *up = nullptr, *gate = nullptr, *down = nullptr;                  // [E, f, d], [E, f, d], [E, d, f]
  const float *bias_up = nullptr, *bias_gate = nullptr, *bias_down = nullptr;  // [E, f], [E, f], [E, d], or null
  const float* x = nullptr;                                                    // [T, d]
  const int32_t* ids = nullptr;                                                // [T, picks]
  const float* weights = nullptr;                                              // [T, picks]
  Extent tokens = {};
  int64_t experts = 0, d = 0, f = 0;
  int picks = 1;  // of a token
  Act act = Act::silu;
  float alpha = 0, limit = 0;
  float* interm = nullptr;  // [T, picks, f] scratch
  float* y = nullptr;       // [T, d]
  bool x_is_old = false;    // x was made before the kernel that made ids, and that one is launch_route's
};

/// Few picks: each reads its expert's rows for itself. Quantized weights by 8-bit activations, plain ones by f32.
/// Whether rows of `columns` of that type can be read, `rows` of activations side by side in shared memory.
bool moe_decode_reads(uint32_t type, int64_t columns, int64_t rows);
constexpr int64_t kMoeDecodePicks = 65535;  // at most, all together
constexpr int kMoeTokenPicks = 32;          // at most, of a token
void launch_moe_decode(const ExpertsArgs& args, cudaStream_t stream);

/// Many picks: an expert's rows are read once for each kMoeTile of its picks, by tensor cores: f16 activations and
/// weights, f32 sums. `memory`: moe_grouped_bytes of scratch; `interm` plays no part.
constexpr int64_t kMoeTile = 48;                         // picks
constexpr int64_t kMoeTiles = 65535, kMoeGroups = 8192;  // tiles and experts, at most
bool moe_grouped_reads(uint32_t type, int64_t columns);
size_t moe_grouped_bytes(const ExpertsArgs& args);
int64_t moe_grouped_tiles(int64_t picks, int64_t experts);
void launch_moe_grouped(const ExpertsArgs& args, void* memory, cudaStream_t stream);

}  // namespace weft::cuda
