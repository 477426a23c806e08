#include "models/session/unigram.h"

#include <algorithm>

#include "graph/error.h"
#include "models/session/utf8.h"

namespace weft {

Unigram::Unigram(const TokenizerSpec& spec) {
  constexpr double kUnknownPenalty = 10;
  constexpr size_t kMaxTokenBytes = 4096;  // bounds the time for each place of a text
  double least = 0;
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    least = i == 0 ? spec.scores[i] : std::min<double>(least, spec.scores[i]);
    const bool plain = spec.types[i] == TokenType::normal || spec.types[i] == TokenType::byte;
    const std::string& token = spec.tokens[i];
    if (!plain || token.empty()) continue;
    require(token.size() <= kMaxTokenBytes, "vocabulary: token {} has {} bytes, the limit is {}", i, token.size(),
            kMaxTokenBytes);
    entries_.push_back({token, static_cast<int32_t>(i), spec.scores[i]});
  }
  unknown_score_ = least - kUnknownPenalty;
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) { return a.text != b.text ? a.text < b.text : a.id > b.id; });
  const auto same = [](const Entry& a, const Entry& b) { return a.text == b.text; };
  entries_.erase(std::unique(entries_.begin(), entries_.end(), same), entries_.end());
  for (const Entry& entry : entries_) ++first_[static_cast<uint8_t>(entry.text[0]) + 1u];
  for (size_t b = 0; b < 256; ++b) first_[b + 1] += first_[b];
}

std::vector<Unigram::Part> Unigram::cut(std::string_view piece, bool fuse) const {
  struct Best {
    double score = 0;
    size_t begin = SIZE_MAX;  // of the last part; SIZE_MAX: nothing ends here
    int32_t id = -1;
  };
  std::vector<Best> best(piece.size() + 1);
  const auto offer = [&](size_t begin, size_t end, int32_t id, double score) {
    Best& slot = best[end];
    if (slot.begin == SIZE_MAX || score > slot.score) slot = {score, begin, id};
  };
  for (size_t at = 0; at < piece.size();) {
    const double score = best[at].score;
    const size_t character = decode_utf8(piece, at).size;
    const auto lead = static_cast<uint8_t>(piece[at]);
    auto low = entries_.begin() + first_[lead], high = entries_.begin() + first_[lead + 1u];
    bool single = false;
    for (size_t depth = 1; low != high; ++depth) {
      if (low->text.size() == depth) {
        offer(at, at + depth, low->id, score + low->score);
        single |= depth == character;
        ++low;
      }
      if (at + depth == piece.size()) break;
      const auto next = static_cast<uint8_t>(piece[at + depth]);
      low = std::partition_point(low, high, [&](const Entry& e) { return static_cast<uint8_t>(e.text[depth]) < next; });
      high =
          std::partition_point(low, high, [&](const Entry& e) { return static_cast<uint8_t>(e.text[depth]) == next; });
    }
    if (!single) offer(at, at + character, -1, score + unknown_score_);
    at += character;
  }
  std::vector<Part> parts;
  for (size_t end = piece.size(); end > 0; end = best[end].begin) {
    const auto [score, begin, id] = best[end];
    if (fuse && id < 0 && !parts.empty() && parts.back().id < 0) {
      parts.back().text = {piece.data() + begin, parts.back().text.size() + (end - begin)};
    } else {
      parts.push_back({piece.substr(begin, end - begin), id});
    }
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace weft
