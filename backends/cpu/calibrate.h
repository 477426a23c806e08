// How fast this machine reads memory and multiplies, measured in a fraction of a second.
#pragma once

#include "backends/cpu/isa/isa.h"
#include "backends/cpu/team.h"

namespace weft::cpu {

/// Read bandwidth of the whole team, GB/s (1e9 bytes), over a buffer beyond every private cache.
double measure_read_gbps(Team& team);

/// f32 rate of the team in the matmul that kernels use, from cache, GFLOP/s.
double measure_gflops(Team& team, const IsaKernels& isa);

}  // namespace weft::cpu
