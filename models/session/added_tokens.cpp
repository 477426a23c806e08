#include "models/session/added_tokens.h"

#include <algorithm>
#include <utility>

#include "graph/error.h"
#include "models/session/utf8.h"

namespace weft {

void AddedTokens::add(std::string text, bool special, const AddedTokenRule& rule) {
  constexpr size_t kMaxBytes = 1024;
  require(!text.empty() && text.size() <= kMaxBytes, "added token {} has {} bytes, expected 1 to {}", rule.id,
          text.size(), kMaxBytes);
  entries_.push_back({std::move(text), special, rule});
}

void AddedTokens::sort() {
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) { return a.text != b.text ? a.text < b.text : a.rule.id < b.rule.id; });
  const auto same = [](const Entry& a, const Entry& b) { return a.text == b.text; };
  entries_.erase(std::unique(entries_.begin(), entries_.end(), same), entries_.end());
  first_.fill(0);
  for (const Entry& entry : entries_) ++first_[static_cast<uint8_t>(entry.text[0]) + 1u];
  for (size_t b = 0; b < 256; ++b) first_[b + 1] += first_[b];
}

const AddedTokens::Entry* AddedTokens::longest_at(std::string_view text, bool parse_special) const {
  const Entry* best = nullptr;
  const auto lead = static_cast<uint8_t>(text[0]);
  auto low = entries_.begin() + first_[lead], high = entries_.begin() + first_[lead + 1u];
  for (size_t depth = 1; low != high; ++depth) {
    // All of [low, high) agree with the text in `depth` bytes; the one that ends there comes first.
    if (low->text.size() == depth) {
      if (parse_special || !low->special) best = &*low;
      ++low;
    }
    if (depth == text.size()) break;
    const auto next = static_cast<uint8_t>(text[depth]);
    low = std::partition_point(low, high, [&](const Entry& e) { return static_cast<uint8_t>(e.text[depth]) < next; });
    high = std::partition_point(low, high, [&](const Entry& e) { return static_cast<uint8_t>(e.text[depth]) == next; });
  }
  return best;
}

std::vector<TextSegment> AddedTokens::split(std::string_view text, bool parse_special) const {
  std::vector<TextSegment> segments;
  size_t done = 0;
  const auto keep = [&](size_t begin, size_t end, int32_t id) {
    if (end > begin) segments.push_back({text.substr(begin, end - begin), begin, id});
  };
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<uint8_t>(text[at]);
    const Entry* entry = first_[lead] == first_[lead + 1u] ? nullptr : longest_at(text.substr(at), parse_special);
    if (entry == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + entry->text.size();
    at = end;
    if (entry->rule.single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end))))
      continue;
    if (entry->rule.lstrip) begin = done + trailing_space_begin(text.substr(done, begin - done));
    if (entry->rule.rstrip) end += leading_space_end(text.substr(end));
    keep(done, begin, -1);
    keep(begin, end, entry->rule.id);
    at = done = end;
  }
  keep(done, text.size(), -1);
  return segments;
}

}  // namespace weft
