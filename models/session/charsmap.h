// SentencePiece's precompiled normalization rules: a trie of character sequences and what each becomes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

/// The bytes are: u32 size of the trie in bytes, the trie (a Darts double array of u32), the replacements (each ends
/// with a zero byte), little-endian. Source: SentencePiece's normalizer.cc, Darts-clone's unit layout, and, for what is
/// looked up where several could be, the Precompiled normalizer of Hugging Face tokenizers.
class Charsmap {
 public:
  /// Throws Error if the sizes do not fit each other. What the trie holds is checked while it is walked.
  explicit Charsmap(std::string_view bytes);

  /// Whole grapheme clusters of up to 5 bytes that have a rule are replaced, in others each character that has one; by
  /// the rule for the shortest prefix. Bytes that are not UTF-8 stay. Throws Error if the result passes `max_bytes`.
  std::string apply(std::string_view text, size_t max_bytes) const;

 private:
  std::optional<std::string_view> find(std::string_view key) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace weft
