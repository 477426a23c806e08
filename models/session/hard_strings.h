// Texts on which tokenizers disagree: spaces, digits, contractions, scripts, combining marks, emoji, controls, code.
#pragma once

#include <span>
#include <string_view>

namespace weft {

std::span<const std::string_view> hard_strings();

}  // namespace weft
