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

/// Sets a u32 key. Throws Error unless 0 < value < 2^32.
void set_size(Metadata& metadata, std::string_view key, int64_t value);

/// ARCH.vocab_size, or the number of tokens of the vocabulary.
int64_t vocabulary_size(const Metadata& metadata, std::string_view arch);

/// Throws Error unless every size is within 1 .. 2^31; `what` names them.
void check_sizes(std::string_view arch, std::initializer_list<std::pair<std::string_view, int64_t>> sizes);

}  // namespace weft
