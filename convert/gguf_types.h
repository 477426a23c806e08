// Tensor type ids of GGUF files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "graph/dtype.h"

namespace weft::gguf {

/// The type of a GGUF id. Throws Error naming the id and the tensor if weft does not read it, with the reason: removed
/// from the format, private to a fork, not supported or unknown.
DType tensor_type(uint32_t id, std::string_view tensor);

}  // namespace weft::gguf
