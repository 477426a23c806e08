// How fast this machine reads memory and computes: the limits that predictions and shares are made of.
#pragma once

#include <span>
#include <string>

#include "backends/cpu/isa/isa.h"
#include "backends/cpu/team.h"

namespace weft::cpu {

/// Memory that the probes read. `data` is written share by share by the threads that will read it.
void fill(Team& team, std::span<float> data);

/// GB/s (1e9 bytes) that the first `threads` of the team read of `data`, each its share, over and over.
double measure_read_gbps(Team& team, const IsaKernels& isa, std::span<const float> data, int threads);
/// f32 fused multiply-adds on registers, GFLOP/s.
double measure_gflops(Team& team, const IsaKernels& isa, int threads);
/// 8-bit dot products on registers, GOP/s; 0 if the instruction set has none.
double measure_int8_gops(Team& team, const IsaKernels& isa, int threads);
/// bf16 tile products with their operands' loads, GFLOP/s; 0 if there is no tile unit.
double measure_tile_gflops(Team& team, const IsaKernels& isa, int threads);

/// All of it by threads and bytes, as a table. `data` bounds the sizes.
std::string measure_table(Team& team, const IsaKernels& isa, std::span<float> data);

}  // namespace weft::cpu
