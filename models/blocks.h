// Building blocks that several architectures share. They take values and options, never an architecture's name.
#pragma once

#include <string_view>

#include "ops/activation.h"

namespace weft {

/// config.json's hidden_act / activation_function. Throws Error on a name it does not know.
Activation activation_from_hf(std::string_view name);

}  // namespace weft
