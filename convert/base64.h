// Base64 text as bytes.
#pragma once

#include <string>
#include <string_view>

namespace weft {

/// Source: RFC 4648, section 4, padding required. Throws Error beginning with `what` if the text is not that.
std::string from_base64(std::string_view text, std::string_view what);

}  // namespace weft
