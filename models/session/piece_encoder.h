// From a piece of text (what the pre-tokenizer made) to token ids.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "models/session/bpe.h"
#include "models/session/tokenizer_spec.h"
#include "models/session/unigram.h"

namespace weft {

class PieceEncoder {
 public:
  /// Keeps a reference to the spec. Throws Error if a merge names a token that is not in the vocabulary.
  explicit PieceEncoder(const TokenizerSpec& spec);

  /// Appends the ids of a piece, which stepwise specs have put in the form the tokens are in; `merger` lends its
  /// buffers. Throws Error if the vocabulary has neither a token for a part of the piece nor an unknown token.
  /// Thread-safe for different mergers.
  void encode(std::string_view piece, BpeMerger& merger, std::vector<int32_t>& ids) const;

 private:
  void read_vocabulary();
  void read_merges();
  void rank_scores();
  void encode_bytes(std::string_view piece, BpeMerger& merger, std::vector<int32_t>& ids) const;
  void encode_characters(std::string_view piece, BpeMerger& merger, std::vector<int32_t>& ids) const;
  void encode_word(std::string_view word, BpeMerger& merger, std::vector<int32_t>& ids) const;
  void encode_unigram(std::string_view piece, std::vector<int32_t>& ids) const;
  void push_bytes_or_unknown(std::string_view part, size_t first, std::vector<int32_t>& ids) const;
  void push_unknown(std::string_view part, size_t first, std::vector<int32_t>& ids) const;
  int32_t find(std::string_view text) const;

  const TokenizerSpec& spec_;
  std::unordered_map<std::string_view, int32_t> ids_;  // by text as written; tokens that text can become
  std::array<int32_t, 256> byte_ids_;                  // the token of each byte, -1 where there is none
  MergeTable merges_;
  bool cuts_words_ = false;  // no token has a U+2581 behind another character, so words can be merged one by one
  Unigram unigram_;
  std::vector<int32_t> score_ranks_;  // by id, 0 the best score; empty where merges are used
};

}  // namespace weft
