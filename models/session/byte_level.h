// GPT-2's way of writing bytes as printable characters, so that a vocabulary can be kept as text.
// Source: bytes_to_unicode in OpenAI's gpt-2/src/encoder.py.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace weft {

/// The bytes in their printable form: 0x21..0x7E, 0xA1..0xAC and 0xAE..0xFF as themselves, the rest from U+0100 on.
std::string to_printable_bytes(std::string_view bytes);

/// The bytes a printable form stands for; empty if it has a character that stands for none.
std::optional<std::string> from_printable_bytes(std::string_view printable);

}  // namespace weft
