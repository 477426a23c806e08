// Text from a session: feed the prompt, sample, feed the sample, until an end token, a stop string or a limit.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "models/session/sampler.h"
#include "models/session/session.h"
#include "models/session/tokenizer.h"

namespace weft {

struct GenerateOptions {
  int64_t max_tokens = -1;        // -1: until the context is full
  std::vector<std::string> stop;  // ends before any of these appears
  SamplerOptions sampler;
};

enum class StopReason : uint8_t { limit, end_token, stop_string, context_full, caller };

struct GenerateResult {
  std::vector<int32_t> tokens;  // generated ones; an end token is not among them
  std::string text;             // what was handed to the caller
  StopReason reason = StopReason::limit;
  size_t prompt_tokens = 0;
  double prompt_s = 0, decode_s = 0;  // seconds in the prompt step and in all later ones
};

/// Continues `prompt` in `sequence`. `on_text` gets whole UTF-8 characters as they come and returns false to stop. Text
/// that may turn out to begin a stop string is held back until it is decided.
/// Throws Error if the prompt is empty or does not fit the context.
GenerateResult generate(Session& session, int sequence, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                        const GenerateOptions& options, const std::function<bool(std::string_view)>& on_text);

}  // namespace weft
