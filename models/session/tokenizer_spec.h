// What a tokenizer is, as plain data: read from tokenizer.json (convert/) or from GGUF metadata, run by Tokenizer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/metadata.h"
#include "models/session/text_steps.h"

namespace weft {

enum class TokenizerKind : uint8_t {
  byte_level_bpe,     // GPT-2: bytes shown as printable characters, merges by rank, pre-tokenizer regexes
  sentencepiece_bpe,  // Llama-2: U+2581 for spaces, merges by score (or rank, where merges are given), byte fallback
  unigram,            // T5: U+2581 for spaces, the pieces whose scores have the largest sum, byte fallback; stepwise
};

/// tokenizer.ggml.token_type
enum class TokenType : uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

/// Where add_space_prefix puts the space. A segment is the text between two special tokens.
enum class SpacePrefix : uint8_t {
  always,              // before every segment: SentencePiece, Hugging Face's normalizer Prepend
  unless_space,        // before every segment that does not start with one: ByteLevel, Metaspace "always"
  first_unless_space,  // before the segment that starts the text, unless it starts with one: Metaspace "first"
};

/// How an added token is found in text, where it is not simply by its bytes.
struct AddedTokenRule {
  int32_t id = 0;
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool single_word = false;  // only where no word character touches it
  bool normalized = false;   // looked for in the normalized text

  friend bool operator==(const AddedTokenRule&, const AddedTokenRule&) = default;
};

struct TokenizerSpec {
  TokenizerKind kind = TokenizerKind::byte_level_bpe;
  std::vector<std::string> tokens;  // by id, as written in the file (byte-level ones in their printable form)
  std::vector<float> scores;        // by id; empty unless the kind uses them
  std::vector<TokenType> types;     // by id
  std::vector<std::string> merges;  // "left right", best first
  std::string pre_tokenizer;        // GGUF name ("gpt-2", "llama-bpe", "qwen2"), or empty: GGUF has none for them
  std::vector<std::string> split_patterns;  // PCRE2 regexes applied one after the other; matches and the text between
                                            // them are pieces
  bool ignore_merges = false;               // a whole piece found in the vocabulary is taken as it is
  bool normalize_nfc = false;               // text is put in Unicode normal form C first
  bool add_space_prefix = false;            // SentencePiece's dummy prefix; ByteLevel's add_prefix_space
  SpacePrefix space_prefix = SpacePrefix::always;  // read where add_space_prefix is set
  // Where that does not say it all: stepwise, then the steps count, and not split_patterns, normalize_nfc and the
  // prefix.
  bool stepwise = false;
  TextSteps normalizers, pre_tokenizers, decoders;
  std::string charsmap;      // what the step of that name does (charsmap.h)
  bool fuse_unknown = true;  // neighbouring unknown characters are one unknown token
  bool add_bos = false;
  bool add_eos = false;
  std::optional<int32_t> bos, eos, unknown, padding;
  std::vector<int32_t> end_of_turn;         // ids that end generation besides eos, ascending
  std::vector<AddedTokenRule> added_rules;  // for the added tokens that need one, by ascending id

  /// From tokenizer.ggml.*; empty if the file has no vocabulary (model "no_vocab", "none" or absent). Throws Error if
  /// it is inconsistent or needs a tokenizer weft does not have.
  static std::optional<TokenizerSpec> from_metadata(const Metadata& metadata);
  /// Writes the tokenizer.ggml.* keys that other GGUF programs read, and tokenizer.weft.* for what those cannot say.
  void write_metadata(Metadata& metadata) const;
  /// Throws Error unless lengths agree, ids are in range, merges have two parts and byte tokens are <0xHH>.
  void check() const;

 private:
  void write_steps_to(Metadata& metadata) const;
  bool same_steps(const TokenizerSpec& other) const;
};

/// The byte a token "<0xHH>" stands for; empty if it is not exactly that.
std::optional<uint8_t> byte_of_token(std::string_view token);

}  // namespace weft
