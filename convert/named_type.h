// A tensor of a file before its bytes: what the writers are told first.
#pragma once

#include <string>

#include "graph/tensor.h"

namespace weft {

struct NamedType {
  std::string name;
  TensorType type;
};

}  // namespace weft
