// What stands around the model in a tokenizer.json: normalizer, pre_tokenizer, decoder, post_processor. Only for the
// sources of convert/.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/session/tokenizer_spec.h"

namespace weft {

struct TokenizerPipeline {
  TextSteps normalizers, pre_tokenizers, decoders;
  std::string charsmap;
  bool byte_level = false;             // the pieces are bytes in their printable form
  bool has_template = false;           // post_processor TemplateProcessing
  std::optional<int32_t> first, last;  // what the template puts in front and behind
};

/// Reads the four members of a tokenizer.json. Throws Error naming what weft does not do.
TokenizerPipeline read_pipeline(const nlohmann::json& root);

/// Puts the steps into the spec: in its short form where that says it all, else as they are.
void put_pipeline(const TokenizerPipeline& pipeline, TokenizerSpec& spec);

/// Throws Error unless `object` is an object with no keys but these.
void only_keys(const nlohmann::json& object, std::string_view what, std::initializer_list<std::string_view> keys);
/// A boolean member; `otherwise` if it is absent or null. Throws Error if it is something else.
bool flag_of(const nlohmann::json& object, std::string_view what, std::string_view key, bool otherwise);
/// A string member. Throws Error if it is absent or something else.
std::string text_of(const nlohmann::json& object, std::string_view what, std::string_view key);
/// A number as a token id. Throws Error if it is not an integer from 0 to 2^31 - 1.
int32_t id_of(const nlohmann::json& value, std::string_view what);

}  // namespace weft
