// The steps of a tokenizer as plain data: what is done to a text before its pieces are looked up, and to tokens before
// they are text again. The stages of a tokenizer.json come apart into a few of these each.
// Source: the normalizers, pre_tokenizers and decoders of Hugging Face tokenizers 0.22.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace weft {

/// Patterns are PCRE2 regexes. A piece is first if it starts the whole text.
enum class TextOp : uint8_t {
  // of a text, or of each piece
  nfc,
  nfd,
  nfkc,
  nfkd,
  lowercase,
  strip_left,     // white space
  strip_right,    // white space
  strip_marks,    // combining ones
  replace,        // every match of a pattern by a text
  replace_text,   // every occurrence of a text by another
  prepend,        // a text, unless the piece is empty
  prepend_once,   // a text, unless the piece starts with it
  prepend_first,  // likewise, but to the first piece only
  charsmap,       // TokenizerSpec::charsmap
  byte_level,     // each byte in its printable form (byte_level.h)
  // of each piece; matches of a pattern and what lies between two
  split_isolated,            // are pieces
  split_contiguous,          // are pieces, neighbouring matches one
  split_removed,             // are dropped; are pieces
  split_kept,                // are pieces; are dropped
  split_to_previous,         // end a piece; go on
  split_to_next,             // start a piece; go on
  split_others_to_previous,  // the same with the pattern inverted
  split_others_to_next,
  // of each token, then of the text that fuse makes of all
  from_byte_level,
  byte_fallback,  // <0xHH> is the byte
  erase_first,    // a text, wherever it stands in the first token
  drop_leading,   // a text from the start, as many times as a number says
  drop_trailing,  // likewise from the end
  fuse,
};

struct TextStep {
  TextOp op;
  std::vector<std::string> arguments;  // as many as `n_arguments`

  friend bool operator==(const TextStep&, const TextStep&) = default;
};
using TextSteps = std::vector<TextStep>;

/// Which steps a list may have.
enum class StepList : uint8_t { normalizers, pre_tokenizers, decoders };

/// The steps as a list of strings, each name followed by its arguments: what GGUF can hold.
std::vector<std::string> write_steps(const TextSteps& steps);
/// Throws Error, beginning with `what`, unless the strings are names of steps of this list with their arguments.
TextSteps read_steps(std::span<const std::string> strings, StepList list, std::string_view what);
/// Throws Error unless the steps belong in the list and have their arguments.
void check_steps(const TextSteps& steps, StepList list, std::string_view what);

/// How often drop_leading and drop_trailing drop their text.
size_t drop_count(const TextStep& step);

}  // namespace weft
