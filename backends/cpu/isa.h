// Which instruction set the kernels run with.
#pragma once

#include <string_view>
#include <vector>

#include "backends/cpu/isa/isa.h"

namespace weft::cpu {

/// The instruction sets this machine can run, first the one that is chosen where none is named; never empty: sse2 is
/// part of x86-64.
std::vector<const IsaKernels*> supported_isas();

/// The named one, or the first for an empty name. Throws Error if the machine lacks it or there is none of that name.
const IsaKernels& choose_isa(std::string_view name);

}  // namespace weft::cpu
