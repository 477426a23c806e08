#include "models/session/normal_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "graph/error.h"
#include "models/session/utf8.h"

namespace weft {
namespace {

/// Appends the normal form of a run of whole characters. utf8proc_map would do, but it orders combining marks by
/// insertion, which takes quadratic time on a text made of nothing else; here they are sorted.
void append_normal(std::string& out, std::string_view run, NormalForm form, std::vector<utf8proc_int32_t>& codes) {
  const bool compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
  const bool composed = form == NormalForm::nfc || form == NormalForm::nfkc;
  const int options = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE | (compatible ? UTF8PROC_COMPAT : 0);
  codes.clear();
  for (size_t at = 0; at < run.size();) {
    const Utf8Char c = decode_utf8(run, at);
    at += c.size;
    constexpr int kParts = 32;  // no decomposition is longer than 18 (U+FDFA)
    utf8proc_int32_t parts[kParts];
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code), parts, kParts,
                                           static_cast<utf8proc_option_t>(options), nullptr);
    require(n > 0 && n <= kParts, "normalizing U+{:04X} failed", static_cast<uint32_t>(c.code));
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
  auto n = static_cast<utf8proc_ssize_t>(codes.size());
  if (composed) {
    n = utf8proc_normalize_utf32(codes.data(), n, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    require(n >= 0, "normalizing text failed: {}", utf8proc_errmsg(n));
  }
  for (utf8proc_ssize_t i = 0; i < n; ++i) append_utf8(out, static_cast<char32_t>(codes[static_cast<size_t>(i)]));
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

/// Calls `use(code)` for each whole character; other bytes are kept.
template <typename Use>
std::string map_characters(std::string_view text, const Use& use) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (c.state == Utf8State::valid) use(c.code, out);
    else out.append(text.substr(at, c.size));
    at += c.size;
  }
  return out;
}

}  // namespace

std::string to_normal_form(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string(text);
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> codes;
  for (size_t at = 0; at < text.size();) {
    const size_t end = valid_utf8_end(text, at);
    append_normal(out, text.substr(at, end - at), form, codes);
    at = end;
    if (at < text.size()) out += text[at++];
  }
  return out;
}

std::string to_lowercase(std::string_view text) {
  return map_characters(text, [](char32_t code, std::string& out) {
    if (code == 0x130) out += "i\u0307";  // the one character whose lower case is two
    else append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
  });
}

std::string without_marks(std::string_view text) {
  return map_characters(text, [](char32_t code, std::string& out) {
    const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
    const bool mark =
        category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
    if (!mark) append_utf8(out, code);
  });
}

}  // namespace weft
