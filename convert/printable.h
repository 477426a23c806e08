// Names from foreign files, made fit for a one-line message.
#pragma once

#include <string>
#include <string_view>

namespace weft {

/// `text` with every byte outside printable ASCII as '?', cut to `max_bytes`.
inline std::string printable(std::string_view text, size_t max_bytes = 100) {
  std::string out(text.substr(0, max_bytes));
  for (char& c : out)
    if (c < 0x20 || c > 0x7E) c = '?';
  if (text.size() > max_bytes) out += "...";
  return out;
}

}  // namespace weft
