// Opens whatever a user names as a model.
#pragma once

#include <memory>
#include <string>

#include "models/checkpoint.h"

namespace weft {

/// MODEL: a .gguf file, its first shard, or a Hugging Face folder. Throws Error, the path in front.
std::shared_ptr<const Checkpoint> open_checkpoint(const std::string& path);

}  // namespace weft
