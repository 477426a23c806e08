#include "models/session/special_tokens.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

namespace weft {
namespace {

constexpr std::array<std::string_view, 5> kBosNames = {"<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>",
                                                       "<|endoftext|>"};
constexpr std::array<std::string_view, 6> kEosNames = {"</s>",       "<|end_of_text|>", "<eos>",
                                                       "<|im_end|>", "<|return|>",      "<|endoftext|>"};
constexpr std::array<std::string_view, 14> kEndOfTurnNames = {
    "<|eot_id|>", "<|eom_id|>",      "<|im_end|>",      "<|end|>", "<end_of_turn>", "<|endoftext|>",
    "<|eot|>",    "<|end_of_text|>", "<|end_of_turn|>", "<EOT>",   "<|EOT|>",       "<｜end▁of▁sentence｜>",
    "<|return|>", "<|call|>"};

/// The first name that a control token has.
std::optional<int32_t> first_of(const TokenizerSpec& spec, std::span<const std::string_view> names) {
  size_t best = names.size();
  int32_t found = -1;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.types[id] != TokenType::control) continue;
    const auto at = static_cast<size_t>(std::find(names.begin(), names.end(), spec.tokens[id]) - names.begin());
    if (at < best) best = at, found = static_cast<int32_t>(id);
  }
  return found < 0 ? std::nullopt : std::optional(found);
}

}  // namespace

std::optional<int32_t> guess_bos(const TokenizerSpec& spec) { return first_of(spec, kBosNames); }
std::optional<int32_t> guess_eos(const TokenizerSpec& spec) { return first_of(spec, kEosNames); }

std::vector<int32_t> guess_end_of_turn(const TokenizerSpec& spec) {
  std::vector<int32_t> ids;
  int32_t end = -1;
  bool returns = false, calls = false;
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    if (spec.types[i] != TokenType::control) continue;
    const std::string& name = spec.tokens[i];
    if (std::find(kEndOfTurnNames.begin(), kEndOfTurnNames.end(), name) == kEndOfTurnNames.end()) continue;
    const auto id = static_cast<int32_t>(i);
    if (name == "<|end|>") end = id;
    returns |= name == "<|return|>";
    calls |= name == "<|call|>";
    if (id != spec.eos) ids.push_back(id);
  }
  if (returns && calls) std::erase(ids, end);  // the harmony format: <|end|> closes a message, the turn goes on
  return ids;
}

}  // namespace weft
