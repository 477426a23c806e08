// Building blocks that several architectures share. They take values and options, never an architecture's name for
// anything but the prefix of its metadata keys.
#pragma once

#include <string_view>

#include "models/metadata.h"
#include "ops/activation.h"

namespace weft {

/// config.json's hidden_act / activation_function. Throws Error on a name it does not know.
Activation activation_from_hf(std::string_view name);
/// The gated form of a plain activation.
Activation gated(Activation activation);

/// ARCH.vocab_size, or the number of tokens of the vocabulary.
int64_t vocabulary_size(const Metadata& metadata, std::string_view arch);

}  // namespace weft
