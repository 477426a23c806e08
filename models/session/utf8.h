// UTF-8, one character at a time, with every malformed sequence accounted for.
// Source: the Unicode Standard 15, table 3-7 (well-formed byte sequences) and section 3.9 (maximal subparts).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace weft {

enum class Utf8State : uint8_t { valid, invalid, incomplete };

/// The character at a position. Invalid: `size` bytes (1 to 3) cannot begin one. Incomplete: the text ends inside one.
struct Utf8Char {
  char32_t code = 0;
  uint32_t size = 0;
  Utf8State state = Utf8State::invalid;
};

/// Decodes the character that starts at text[at]; at < text.size().
Utf8Char decode_utf8(std::string_view text, size_t at);

/// The end of the longest run of whole characters that starts at text[at]; `at` itself if there is none.
size_t valid_utf8_end(std::string_view text, size_t at);

/// Appends a character; `code` is a Unicode scalar value.
void append_utf8(std::string& out, char32_t code);

/// Unicode's White_Space property.
bool is_white_space(char32_t code);
/// Letters, marks, numbers and connecting punctuation: \w.
bool is_word(char32_t code);

/// The start of the white space that ends text; text.size() if none does.
size_t trailing_space_begin(std::string_view text);
/// The end of the white space that starts text.
size_t leading_space_end(std::string_view text);
bool ends_with_word(std::string_view text);
bool starts_with_word(std::string_view text);

}  // namespace weft
