// How fast this machine reads memory and multiplies, measured in a fraction of a second.
#pragma once

#include "backends/cpu/isa/isa.h"
#include "backends/cpu/team.h"

namespace weft::cpu {

/// Bandwidth of the whole team in the one-token product of f32 weights, GB/s (1e9 bytes), over 64 MiB: beyond every
/// private cache.
double measure_read_gbps(Team& team, const IsaKernels& isa);

/// f32 rate of the team in the matmul that kernels use, from cache, GFLOP/s.
double measure_gflops(Team& team, const IsaKernels& isa);

}  // namespace weft::cpu
