#include "models/session/charsmap.h"

#include <utf8proc.h>

#include "graph/error.h"
#include "models/session/utf8.h"

namespace weft {
namespace {

uint32_t read_u32(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= static_cast<uint32_t>(static_cast<uint8_t>(bytes[at + i])) << 8 * i;
  return value;
}

// A unit: bits 0 to 7 label, 8 has a leaf, 9 offset is in units of 256, 10 to 30 offset, 31 is a leaf (then the rest is
// its value).
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t label_of(uint32_t unit) { return unit & 0x800000FFu; }
uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

/// The end of the grapheme cluster that starts at text[at]; text is whole characters.
size_t cluster_end(std::string_view text, size_t at) {
  Utf8Char c = decode_utf8(text, at);
  utf8proc_int32_t state = 0;
  for (at += c.size; at < text.size(); at += c.size) {
    const auto before = static_cast<utf8proc_int32_t>(c.code);
    c = decode_utf8(text, at);
    if (utf8proc_grapheme_break_stateful(before, static_cast<utf8proc_int32_t>(c.code), &state)) break;
  }
  return at;
}

}  // namespace

Charsmap::Charsmap(std::string_view bytes) {
  require(bytes.size() >= 4, "precompiled charsmap: {} bytes", bytes.size());
  const size_t trie = read_u32(bytes, 0);
  require(trie >= 4 && trie % 4 == 0 && trie <= bytes.size() - 4, "precompiled charsmap: a trie of {} bytes in {}",
          trie, bytes.size());
  for (size_t at = 4; at < 4 + trie; at += 4) units_.push_back(read_u32(bytes, at));
  replacements_ = bytes.substr(4 + trie);
}

std::optional<std::string_view> Charsmap::find(std::string_view key) const {
  size_t node = offset_of(units_[0]);
  for (const char c : key) {
    const auto byte = static_cast<uint8_t>(c);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || label_of(units_[node]) != byte) return std::nullopt;
    const uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_leaf(unit)) continue;
    require(node < units_.size(), "precompiled charsmap: a leaf lies outside the trie");
    const size_t at = units_[node] & 0x7FFFFFFFu;
    require(at < replacements_.size(), "precompiled charsmap: a replacement lies outside the text");
    const std::string_view rest = std::string_view(replacements_).substr(at);
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

std::string Charsmap::apply(std::string_view text, size_t max_bytes) const {
  constexpr size_t kClusterBytes = 6;
  std::string out;
  const auto keep = [&](std::string_view part) {
    require(out.size() + part.size() <= max_bytes, "precompiled charsmap: makes more than {} bytes of a text of {}",
            max_bytes, text.size());
    out += part;
  };
  for (size_t at = 0; at < text.size();) {
    const size_t run_end = valid_utf8_end(text, at);
    const std::string_view run = text.substr(0, run_end);
    while (at < run_end) {
      const size_t end = cluster_end(run, at);
      const auto whole = end - at < kClusterBytes ? find(run.substr(at, end - at)) : std::nullopt;
      if (whole) keep(*whole), at = end;
      while (at < end) {
        const std::string_view character = run.substr(at, decode_utf8(run, at).size);
        keep(find(character).value_or(character));
        at += character.size();
      }
    }
    if (at < text.size()) keep(text.substr(at++, 1));
  }
  return out;
}

}  // namespace weft
