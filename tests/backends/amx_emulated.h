// The amx kernels with the tile unit in plain loops, for machines without one.
#pragma once

#include "backends/cpu/isa/isa.h"

namespace weft::cpu::amx {

/// Null where the machine lacks AVX512_BF16, which the rest of these kernels is made of.
const IsaKernels* emulated();

}  // namespace weft::cpu::amx
