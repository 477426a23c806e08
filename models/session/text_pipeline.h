// Runs a tokenizer's steps (text_steps.h), where the short form of TokenizerSpec does not say it all.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/session/charsmap.h"
#include "models/session/split_regex.h"
#include "models/session/tokenizer_spec.h"

namespace weft {

/// A part of a normalized text; first if it starts the whole text.
struct TextPiece {
  std::string text;
  bool first = false;
};

/// Immutable, so threads may share one.
class TextPipeline {
 public:
  /// Throws Error if a step has no sense or its regex does not compile.
  explicit TextPipeline(const TokenizerSpec& spec);

  /// The normalized text; clears `first` if its start is cut off. Throws Error if it grows beyond 1 GiB.
  std::string normalize(std::string_view text, bool& first) const;
  /// The pieces of a normalized text, not empty.
  std::vector<TextPiece> cut(std::string_view text, bool first) const;
  /// The text of tokens. `start`: they start a text, so that what encoding put in front is taken off.
  std::string decode(const std::vector<std::string_view>& tokens, bool start) const;

 private:
  struct Step {
    TextStep step;
    std::optional<SplitRegex> regex;
  };
  static std::vector<Step> compile(const TextSteps& steps);
  std::string change(const Step& step, std::string_view text, bool first) const;
  static std::string decode_step(const Step& step, std::string_view text, bool first, bool start);

  std::vector<Step> normalizers_, pre_tokenizers_, decoders_;
  std::optional<Charsmap> charsmap_;
};

}  // namespace weft
