// The oracle: plain loops, f32 storage with f64 accumulation, primitives only. What every other kernel is tested
// against.
#pragma once

#include <memory>

#include "graph/backend.h"

namespace weft {

std::unique_ptr<Backend> make_ref_backend();

}  // namespace weft
