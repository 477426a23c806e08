// Unicode normal forms, and what else Unicode says of whole texts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace weft {

enum class NormalForm : uint8_t { nfc, nfd, nfkc, nfkd };

/// The text in a normal form; bytes that are not UTF-8 stay where they are. Time is near-linear in the text for any
/// input. Source: Unicode Standard Annex 15; character data from utf8proc.
std::string to_normal_form(std::string_view text, NormalForm form);

/// Every character in lower case, by itself (no final sigma). Bytes that are not UTF-8 stay.
std::string to_lowercase(std::string_view text);

/// Without combining marks (categories Mn, Mc, Me). Bytes that are not UTF-8 stay.
std::string without_marks(std::string_view text);

}  // namespace weft
