#include "models/session/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "graph/error.h"
#include "models/session/utf8.h"

namespace weft {
namespace {

/// Appends the normal form of a run of whole characters. utf8proc_map would do, but it orders combining marks by
/// insertion, which takes quadratic time on a text made of nothing else; here they are sorted.
void append_nfc(std::string& out, std::string_view run, std::vector<utf8proc_int32_t>& codes) {
  codes.clear();
  for (size_t at = 0; at < run.size();) {
    const Utf8Char c = decode_utf8(run, at);
    at += c.size;
    utf8proc_int32_t parts[8];  // no canonical decomposition is longer than 4
    const auto n =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code), parts, 8,
                                static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE), nullptr);
    require(n > 0 && n <= 8, "normalizing U+{:04X} failed", static_cast<uint32_t>(c.code));
    codes.insert(codes.end(), parts, parts + n);
  }
  const auto combining = [](utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; };
  for (auto first = codes.begin(); first != codes.end();) {
    if (combining(*first) == 0) {
      ++first;
      continue;
    }
    const auto last = std::find_if(first, codes.end(), [&](auto code) { return combining(code) == 0; });
    std::stable_sort(first, last, [&](auto a, auto b) { return combining(a) < combining(b); });
    first = last;
  }
  const auto n = utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
                                          static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  require(n >= 0, "normalizing text failed: {}", utf8proc_errmsg(n));
  for (utf8proc_ssize_t i = 0; i < n; ++i) append_utf8(out, static_cast<char32_t>(codes[static_cast<size_t>(i)]));
}

}  // namespace

std::string to_nfc(std::string_view text) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
  if (ascii) return std::string(text);
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> codes;
  for (size_t at = 0; at < text.size();) {
    const size_t end = valid_utf8_end(text, at);
    append_nfc(out, text.substr(at, end - at), codes);
    at = end;
    if (at < text.size()) out += text[at++];
  }
  return out;
}

}  // namespace weft
