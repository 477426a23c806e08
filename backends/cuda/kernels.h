// The kernels of the cuda backend: one function per fused op, in the file of its name.
#pragma once

#include <vector>

#include "graph/backend.h"

namespace weft::cuda {

/// In the order of ops/all.h, plain, for weights as they are stored.
std::vector<Kernel> list_primitives();

/// All of them, best first.
std::vector<Kernel> list_kernels();

}  // namespace weft::cuda
