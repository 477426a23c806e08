// What control tokens mean, told by their names, where a file does not say.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "models/session/tokenizer_spec.h"

namespace weft {

/// The control token that usually starts or ends a text, by its name ("<s>", "<|endoftext|>", ...).
std::optional<int32_t> guess_bos(const TokenizerSpec& spec);
std::optional<int32_t> guess_eos(const TokenizerSpec& spec);

/// Control tokens whose names say that generation ends with them, other than spec.eos; ascending.
std::vector<int32_t> guess_end_of_turn(const TokenizerSpec& spec);

}  // namespace weft
