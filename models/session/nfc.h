// Unicode normal form C.
#pragma once

#include <string>
#include <string_view>

namespace weft {

/// The text in normal form C; bytes that are not UTF-8 stay where they are. Time is near-linear in the text for any
/// input. Source: Unicode Standard Annex 15; character data from utf8proc.
std::string to_nfc(std::string_view text);

}  // namespace weft
