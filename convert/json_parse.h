// JSON text from foreign files, with nlohmann's exceptions turned into ours. Only for the sources of convert/.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

namespace weft {

inline constexpr int kMaxJsonDepth = 64;

enum class DuplicateKeys : uint8_t { last_wins, refuse };

/// Parses `text`. Throws Error beginning with `where` if it is not JSON, or nests deeper than kMaxJsonDepth. Strings of
/// the result are valid UTF-8.
nlohmann::json parse_json(std::string_view text, std::string_view where,
                          DuplicateKeys duplicates = DuplicateKeys::last_wins);

}  // namespace weft
