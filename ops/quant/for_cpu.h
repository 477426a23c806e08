// The weight formats' loops, compiled for the vector unit of the machine that runs them.
#pragma once

#include "graph/dtype.h"

namespace weft::quant {

/// The same type with faster decode and encode, if this CPU has AVX2: the same results bit for bit.
const TypeTraits& for_this_cpu(DType type);

}  // namespace weft::quant
