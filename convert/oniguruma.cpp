#include "convert/oniguruma.h"

#include "convert/printable.h"
#include "graph/error.h"

namespace weft {

std::string pcre_from_oniguruma(std::string_view pattern) {
  // PCRE2's own \w has all numbers and no marks.
  static const std::string word = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
  static const std::string boundary =
      fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", fmt::string_view(word));
  std::string out;
  int depth = 0;  // of character sets
  bool lines = false;
  const auto refuse = [&](std::string_view what) {
    fail("regex {} uses {}, which weft does not translate", printable(pattern), what);
  };
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const std::string_view rest = pattern.substr(i);
    if (c == '\\' && rest.size() > 1) {
      const char escaped = rest[1];
      if (escaped == 'h' || escaped == 'H') refuse("\\h");
      if (escaped == 'B' || (escaped == 'W' && depth > 0)) refuse(escaped == 'B' ? "\\B" : "\\W in a set");
      if (escaped == 'w') out += depth > 0 ? word : "[" + word + "]";
      else if (escaped == 'W') out += "[^" + word + "]";
      else if (escaped == 'b' && depth == 0) out += boundary;
      else out.append(rest.substr(0, 2));
      ++i;
    } else if (depth > 0 && rest.starts_with("[:")) {
      const size_t end = pattern.find(":]", i);
      if (end == std::string_view::npos) refuse("an open POSIX bracket");
      out.append(pattern.substr(i, end + 2 - i));
      i = end + 1;
    } else if (depth > 0 && rest.starts_with("&&")) {
      refuse("set intersection");
    } else if (c == '[') {
      if (depth > 0 && rest.starts_with("[^")) refuse("a negated set inside a set");
      if (++depth > 1) continue;
      out += c;
      if (rest.starts_with("[^")) out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') out += pattern[++i];
    } else if (c == ']' && depth > 0) {
      if (--depth == 0) out += c;
    } else {
      if (depth == 0 && (c == '^' || c == '$')) lines = true;
      if (depth == 0 && rest.starts_with("(?m")) refuse("(?m)");
      out += c;
    }
  }
  return lines ? "(?m)" + out : out;
}

std::string quote_regex(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80) != 0;
    if (!plain) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace weft
