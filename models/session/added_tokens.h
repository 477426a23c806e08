// Finds added tokens (control and user-defined ones) in text.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/session/tokenizer_spec.h"

namespace weft {

/// A part of a text: an added token, or (id < 0) the text between two.
struct TextSegment {
  std::string_view text;
  size_t begin = 0;  // where it starts in the text that was split
  int32_t id = -1;
};

class AddedTokens {
 public:
  /// Adds a token that is looked for as `text`; `special` ones only where the caller parses special tokens.
  /// Throws Error if `text` is empty or has more than 1024 bytes.
  void add(std::string text, bool special, const AddedTokenRule& rule);
  /// To be called after the last add and before the first split. Of equal texts the lowest id counts.
  void sort();

  /// Cuts the text at the longest of the tokens that start leftmost, and so on after it. Thread-safe.
  /// Source: find_matches in Hugging Face tokenizers' added_vocabulary.rs.
  std::vector<TextSegment> split(std::string_view text, bool parse_special) const;

 private:
  struct Entry {
    std::string text;
    bool special;
    AddedTokenRule rule;
  };
  const Entry* longest_at(std::string_view text, bool parse_special) const;

  std::vector<Entry> entries_;         // sorted by text
  std::array<uint32_t, 257> first_{};  // entries that start with byte b: first_[b] .. first_[b + 1]
};

}  // namespace weft
