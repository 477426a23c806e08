#include "models/session/piece_encoder.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "graph/error.h"
#include "models/session/byte_level.h"
#include "models/session/utf8.h"

namespace weft {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

/// Where the first word ends: at the first U+2581 that does not follow another; npos if there is none.
size_t word_end(std::string_view text) {
  size_t at = 0;
  while (text.substr(at).starts_with(kSpaceMark)) at += kSpaceMark.size();
  return text.find(kSpaceMark, at);
}

}  // namespace

PieceEncoder::PieceEncoder(const TokenizerSpec& spec) : spec_(spec) {
  read_vocabulary();
  if (spec.kind == TokenizerKind::unigram) unigram_ = Unigram(spec);
  else if (!spec.merges.empty()) read_merges();
  else if (spec.kind == TokenizerKind::sentencepiece_bpe) rank_scores();
}

void PieceEncoder::read_vocabulary() {
  byte_ids_.fill(-1);
  ids_.reserve(spec_.tokens.size());
  const bool byte_level = spec_.kind == TokenizerKind::byte_level_bpe;
  for (size_t i = 0; i < spec_.tokens.size(); ++i) {
    const std::string& token = spec_.tokens[i];
    const auto id = static_cast<int32_t>(i);
    switch (spec_.types[i]) {
      case TokenType::normal:
      case TokenType::user_defined:
        ids_.try_emplace(token, id);
        break;
      case TokenType::byte:
        if (byte_level) {
          ids_.try_emplace(token, id);
        } else {
          int32_t& slot = byte_ids_[*byte_of_token(token)];
          require(slot < 0, "vocabulary: byte token {} stands at {} and at {}", token, slot, id);
          slot = id;
        }
        break;
      default:
        break;
    }
  }
  if (spec_.stepwise && byte_level) return;
  if (!byte_level) {
    cuts_words_ = !spec_.ignore_merges && std::all_of(ids_.begin(), ids_.end(), [](const auto& entry) {
      return word_end(entry.first) == std::string_view::npos;
    });
    return;
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    byte_ids_[byte] = find(to_printable_bytes({&c, 1}));
  }
}

void PieceEncoder::read_merges() {
  // Merges may name tokens of every type; only such of `ids_` are ever made from text.
  std::unordered_map<std::string_view, int32_t> others;
  for (size_t i = 0; i < spec_.tokens.size(); ++i) {
    if (!ids_.contains(spec_.tokens[i])) others.try_emplace(spec_.tokens[i], static_cast<int32_t>(i));
  }
  merges_ = MergeTable(spec_.merges.size());
  std::string whole;
  for (size_t rank = 0; rank < spec_.merges.size(); ++rank) {
    const std::string_view merge = spec_.merges[rank];
    const auto id_of = [&](std::string_view part) {
      int32_t id = find(part);
      if (const auto it = others.find(part); id < 0 && it != others.end()) id = it->second;
      if (id < 0) {
        fail("vocabulary: merge {} ({}) needs the token {}, which is missing", rank,
             to_string(MetaValue(std::string(merge))), to_string(MetaValue(std::string(part))));
      }
      return id;
    };
    const size_t space = merge.find(' ');
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    whole.assign(left).append(right);
    merges_.add(id_of(left), id_of(right), {static_cast<int32_t>(rank), id_of(whole)});
  }
}

void PieceEncoder::rank_scores() {
  std::vector<int32_t> order(spec_.tokens.size());
  std::iota(order.begin(), order.end(), 0);
  const auto score = [&](int32_t id) { return spec_.scores[static_cast<size_t>(id)]; };
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score(a) > score(b); });
  score_ranks_.resize(order.size());
  int32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && score(order[i]) != score(order[i - 1])) ++rank;
    score_ranks_[static_cast<size_t>(order[i])] = rank;
  }
}

int32_t PieceEncoder::find(std::string_view text) const {
  const auto it = ids_.find(text);
  return it == ids_.end() ? -1 : it->second;
}

void PieceEncoder::encode(std::string_view piece, BpeMerger& merger, std::vector<int32_t>& ids) const {
  if (spec_.kind == TokenizerKind::unigram) encode_unigram(piece, ids);
  else if (spec_.kind == TokenizerKind::byte_level_bpe && !spec_.stepwise) encode_bytes(piece, merger, ids);
  else encode_characters(piece, merger, ids);
}

void PieceEncoder::encode_bytes(std::string_view piece, BpeMerger& merger, std::vector<int32_t>& ids) const {
  if (spec_.ignore_merges) {
    const int32_t id = find(to_printable_bytes(piece));
    if (id >= 0) return ids.push_back(id);
  }
  const size_t first = ids.size();
  merger.clear();
  for (size_t i = 0; i < piece.size(); ++i) {
    merger.push(byte_ids_[static_cast<uint8_t>(piece[i])], static_cast<uint32_t>(i), 1);
  }
  merger.run([&](const BpeSymbol& a, const BpeSymbol& b) { return merges_.find(a.id, b.id); });
  merger.each([&](const BpeSymbol& symbol) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
    else push_unknown(piece.substr(symbol.begin, symbol.size), first, ids);
  });
}

void PieceEncoder::encode_characters(std::string_view piece, BpeMerger& merger, std::vector<int32_t>& ids) const {
  if (spec_.ignore_merges) {
    const int32_t id = find(piece);
    if (id >= 0) return ids.push_back(id);
  }
  if (!cuts_words_) return encode_word(piece, merger, ids);
  while (!piece.empty()) {
    const size_t end = std::min(word_end(piece), piece.size());
    encode_word(piece.substr(0, end), merger, ids);
    piece.remove_prefix(end);
  }
}

void PieceEncoder::encode_word(std::string_view piece, BpeMerger& merger, std::vector<int32_t>& ids) const {
  const size_t first = ids.size();
  merger.clear();
  for (size_t at = 0; at < piece.size();) {
    const Utf8Char c = decode_utf8(piece, at);
    merger.push(find(piece.substr(at, c.size)), static_cast<uint32_t>(at), c.size);
    at += c.size;
  }
  if (score_ranks_.empty()) {
    merger.run([&](const BpeSymbol& a, const BpeSymbol& b) { return merges_.find(a.id, b.id); });
  } else {
    merger.run([&](const BpeSymbol& a, const BpeSymbol& b) {
      const int32_t id = find(piece.substr(a.begin, a.size + b.size));
      return id < 0 ? Merge{} : Merge{score_ranks_[static_cast<size_t>(id)], id};
    });
  }
  merger.each([&](const BpeSymbol& symbol) {
    if (symbol.id >= 0) return ids.push_back(symbol.id);
    push_bytes_or_unknown(piece.substr(symbol.begin, symbol.size), first, ids);
  });
}

void PieceEncoder::encode_unigram(std::string_view piece, std::vector<int32_t>& ids) const {
  const size_t first = ids.size();
  for (const Unigram::Part& part : unigram_.cut(piece, spec_.fuse_unknown)) {
    const int32_t id = part.id >= 0 ? part.id : find(part.text);
    if (id >= 0) ids.push_back(id);
    else push_bytes_or_unknown(part.text, first, ids);
  }
}

/// The bytes' own tokens, where the vocabulary has them all.
void PieceEncoder::push_bytes_or_unknown(std::string_view part, size_t first, std::vector<int32_t>& ids) const {
  const auto id_of = [&](char c) { return byte_ids_[static_cast<uint8_t>(c)]; };
  if (std::all_of(part.begin(), part.end(), [&](char c) { return id_of(c) >= 0; })) {
    for (const char c : part) ids.push_back(id_of(c));
  } else {
    push_unknown(part, first, ids);
  }
}

/// One unknown token, with fuse_unknown one for neighbouring unknown parts of a piece, whose ids start at `first`.
void PieceEncoder::push_unknown(std::string_view part, size_t first, std::vector<int32_t>& ids) const {
  if (!spec_.unknown) {
    std::string bytes;
    for (const char c : part) bytes += fmt::format("{}{:02X}", bytes.empty() ? "" : " ", static_cast<uint8_t>(c));
    fail("tokenizer: the vocabulary has no token for the bytes {} and no unknown token", bytes);
  }
  const bool fused = spec_.fuse_unknown && ids.size() > first && ids.back() == *spec_.unknown;
  if (!fused) ids.push_back(*spec_.unknown);
}

}  // namespace weft
