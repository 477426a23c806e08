#include "models/session/utf8.h"

#include <utf8proc.h>

#include <optional>

namespace weft {
namespace {

/// The last character of a text, if its bytes are one.
std::optional<Utf8Char> last_char(std::string_view text) {
  for (size_t back = 1; back <= 4 && back <= text.size(); ++back) {
    const size_t at = text.size() - back;
    if ((static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) continue;
    const Utf8Char c = decode_utf8(text, at);
    if (c.state == Utf8State::valid && c.size == back) return c;
    break;
  }
  return std::nullopt;
}

}  // namespace

Utf8Char decode_utf8(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[at + i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, Utf8State::valid};
  if (lead < 0xC2 || lead > 0xF4) return {0, 1, Utf8State::invalid};
  const uint32_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t code = lead & (0xFFu >> (size + 1));
  for (uint32_t i = 1; i < size; ++i) {
    if (at + i >= text.size()) return {0, i, Utf8State::incomplete};
    const uint8_t next = byte(i);
    const bool fits = i == 1 ? next >= low && next <= high : (next & 0xC0) == 0x80;
    if (!fits) return {0, i, Utf8State::invalid};
    code = code << 6 | (next & 0x3Fu);
  }
  return {code, size, Utf8State::valid};
}

size_t valid_utf8_end(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Utf8Char c = decode_utf8(text, at);
    if (c.state != Utf8State::valid) break;
    at += c.size;
  }
  return at;
}

void append_utf8(std::string& out, char32_t code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

bool is_white_space(char32_t code) {
  return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

bool is_word(char32_t code) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

size_t trailing_space_begin(std::string_view text) {
  while (const auto c = last_char(text)) {
    if (!is_white_space(c->code)) break;
    text.remove_suffix(c->size);
  }
  return text.size();
}

size_t leading_space_end(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Char c = decode_utf8(text, at);
    if (c.state != Utf8State::valid || !is_white_space(c.code)) break;
    at += c.size;
  }
  return at;
}

bool ends_with_word(std::string_view text) {
  const auto c = last_char(text);
  return c && is_word(c->code);
}

bool starts_with_word(std::string_view text) {
  if (text.empty()) return false;
  const Utf8Char c = decode_utf8(text, 0);
  return c.state == Utf8State::valid && is_word(c.code);
}

}  // namespace weft
