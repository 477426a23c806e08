// The pre-tokenizers that GGUF knows by name: one table for both directions.
// Source: the published tokenizer.json of each model; names from the GGUF converters' get_vocab_base_pre.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/session/text_steps.h"

namespace weft {

/// GPT-2's regex, which ByteLevel applies where use_regex is set.
extern const std::string_view kGpt2Pattern;

/// What a name implies where the file does not say otherwise.
struct PreTokenizer {
  std::string_view name;
  std::vector<std::string_view> patterns;  // applied one after the other
  bool ignore_merges = false;
  bool normalize_nfc = false;
  bool add_bos = false;
  bool cuts_bytes = false;  // Falcon cuts digits from the printable form of bytes: see falcon_steps
};

/// What Falcon's tokenizer.json says. The digits are also the bytes 0xB2, 0xB3, 0xB9 and 0xBC to 0xBE, which are shown
/// as superscripts and fractions; the patterns of the table are what programs do that do not cut bytes.
TextSteps falcon_steps();

/// Every known pre-tokenizer. Of several names for the same thing the first is the one written.
std::span<const PreTokenizer> pre_tokenizers();

/// The entry of that name, or null.
const PreTokenizer* find_pre_tokenizer(std::string_view name);

/// The best name for these patterns, preferring one that agrees on the flags; null if no entry has the patterns.
const PreTokenizer* name_pre_tokenizer(std::span<const std::string> patterns, bool ignore_merges, bool normalize_nfc);

}  // namespace weft
