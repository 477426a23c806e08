// Token ids to text as they come, in whole characters.
#pragma once

#include <cstdint>
#include <string>

#include "models/session/tokenizer.h"

namespace weft {

/// Yields valid UTF-8 only: an unfinished character waits for its other bytes, and bytes that are none become U+FFFD.
/// Keeps a reference to the tokenizer.
class StreamDecoder {
 public:
  /// `options.strip_space_prefix` is false where the ids continue a text.
  explicit StreamDecoder(const Tokenizer& tokenizer,
                         DecodeOptions options = {.skip_special = true, .strip_space_prefix = false})
      : tokenizer_(tokenizer), options_(options) {}

  /// The text that is complete with this id. Throws Error for an id out of range.
  std::string next(int32_t id);
  /// What is left when no more ids come; the decoder is then as new, but no longer at the start of a text.
  std::string finish();

 private:
  std::string take_whole(bool at_end);

  const Tokenizer& tokenizer_;
  DecodeOptions options_;
  std::string pending_;  // bytes not yet yielded
};

}  // namespace weft
