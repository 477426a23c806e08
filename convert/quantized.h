// A checkpoint whose matrices are quantized in memory while loading (`--quantize TYPE`).
#pragma once

#include <memory>

#include "convert/convert.h"

namespace weft {

/// The same checkpoint with the types that plan_conversion gives it. Tensors that keep their type stay mapped,
/// the others are converted, with every core, when they are loaded.
std::shared_ptr<const Checkpoint> quantized(std::shared_ptr<const Checkpoint> source, const ConvertOptions& options);

}  // namespace weft
