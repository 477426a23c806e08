// as_stored: the bytes of a large weight as they are, in memory of the device's own. A mapped file lies in pages of 4
// KiB anywhere; a copy can have huge ones, and the file's are given back.
#pragma once

#include "graph/tensor.h"

namespace weft::quant {

/// The layout, for weights of 2 MiB and more, else null.
const Layout* as_stored(const TensorType& type);

}  // namespace weft::quant
