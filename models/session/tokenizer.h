// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/session/tokenizer_spec.h"

namespace weft {

struct EncodeOptions {
  bool add_special = true;    // put bos in front and eos behind where the spec says so
  bool parse_special = true;  // control tokens written out in the text become their ids; user-defined ones always do
};

struct DecodeOptions {
  bool skip_special = false;       // leave control tokens out
  bool strip_space_prefix = true;  // drop the space that SentencePiece put in front; false where text goes on
};

/// Byte-level BPE (GPT-2 and after) and SentencePiece BPE (Llama-2). Immutable, so threads may share one.
class Tokenizer {
 public:
  /// Throws Error if the spec is inconsistent, a merge names an unknown token or a regex does not compile.
  explicit Tokenizer(TokenizerSpec spec);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// The ids of a text of up to 1 GiB. Bytes that are not UTF-8 are kept: byte-level tokenizers without normalization
  /// give every text back. Throws Error if the vocabulary has no way to write some byte, or a regex takes too long.
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;

  /// The bytes the ids stand for; not UTF-8 where a character is cut. Throws Error for an id out of range.
  std::string decode(std::span<const int32_t> ids, DecodeOptions options = {}) const;

  /// The bytes of one token; control tokens as they are written. Throws Error for an id out of range.
  const std::string& piece(int32_t id) const;
  /// Whether the id is a control token, which skip_special leaves out. Throws Error for an id out of range.
  bool is_special(int32_t id) const;
  /// Whether generation ends with this id: end of text or of turn.
  bool is_end(int32_t id) const;
  /// Tokens in the vocabulary.
  int32_t size() const;
  const TokenizerSpec& spec() const;

 private:
  struct Tables;
  std::unique_ptr<const Tables> tables_;
};

}  // namespace weft
