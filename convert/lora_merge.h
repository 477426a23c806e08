// A checkpoint whose weights have adapters in them (`weft convert --lora`).
#pragma once

#include <memory>
#include <vector>

#include "models/lora.h"

namespace weft {

/// The same checkpoint with W + B A, in f32, in place of each weight W that an adapter changes; made row by row when
/// asked for. Throws Error if an adapter does not fit.
std::shared_ptr<const Checkpoint> merged(std::shared_ptr<const Checkpoint> base, std::vector<LoraAdapter> adapters);

}  // namespace weft
