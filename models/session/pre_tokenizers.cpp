#include "models/session/pre_tokenizers.h"

#include <algorithm>

namespace weft {

const std::string_view kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
    R"(\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
    R"(\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
                                     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
                                     R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepseek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";
constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kPunctuation = R"([\p{P}!-/:-@\[-`{-~]+)";
constexpr std::string_view kThreeDigits = "[0-9][0-9][0-9]";

const std::vector<PreTokenizer>& table() {
  static const std::vector<PreTokenizer> entries = {
      // name, patterns, ignore_merges, normalize_nfc, add_bos
      {"gpt-2", {kGpt2Pattern}},
      {"olmo", {kGpt2Pattern}, false, true},
      {"mpt", {kGpt2Pattern}},
      {"phi-2", {kGpt2Pattern}},
      {"jais", {kGpt2Pattern}},
      {"gigachat", {kGpt2Pattern}},
      {"trillion", {kGpt2Pattern}},
      {"llama-bpe", {kLlama3}, true, false, true},
      {"llama3", {kLlama3}, true, false, true},
      {"llama-v3", {kLlama3}, true, false, true},
      {"falcon3", {kLlama3}, true, false, true},
      {"dbrx", {kLlama3}},
      {"smaug-bpe", {kLlama3}},
      {"chatglm-bpe", {kLlama3}},
      {"glm4", {kLlama3}},
      {"qwen2", {kQwen2}, false, true},
      {"deepseek-r1-qwen", {kQwen2}, false, true},
      {"stablelm2", {kQwen2}},
      {"qwen35", {kQwen35}, false, true},
      {"starcoder", {kDigit, kGpt2Pattern}},
      {"refact", {kDigit, kGpt2Pattern}},
      {"command-r", {kDigit, kGpt2Pattern}, false, true},
      {"smollm", {kDigit, kGpt2Pattern}},
      {"codeshell", {kDigit, kGpt2Pattern}},
      {"falcon", {kPunctuation, kGpt2Pattern, "[0-9]+", kThreeDigits}, false, false, false, true},
      {"bloom", {kBloom}},
      {"tekken", {kTekken}, true, false, true},
      {"gpt-4o", {kGpt4o}},
      {"deepseek-v3", {R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+", kDeepseek3}},
      {"deepseek-coder", {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+", kDigit}},
      {"default", {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
  };
  return entries;
}

}  // namespace

TextSteps falcon_steps() {
  const std::string punctuation(kPunctuation.substr(0, kPunctuation.size() - 1));
  return {{TextOp::split_contiguous, {punctuation}},
          {TextOp::split_isolated, {std::string(kGpt2Pattern)}},
          {TextOp::byte_level, {}},
          {TextOp::split_contiguous, {std::string(kDigit)}},
          {TextOp::split_isolated, {std::string(kThreeDigits)}}};
}

std::span<const PreTokenizer> pre_tokenizers() { return table(); }

const PreTokenizer* find_pre_tokenizer(std::string_view name) {
  const auto it = std::find_if(table().begin(), table().end(), [&](const auto& entry) { return entry.name == name; });
  return it == table().end() ? nullptr : &*it;
}

const PreTokenizer* name_pre_tokenizer(std::span<const std::string> patterns, bool ignore_merges, bool normalize_nfc) {
  const PreTokenizer* best = nullptr;
  int best_score = -1;
  for (const PreTokenizer& entry : table()) {
    if (!std::equal(entry.patterns.begin(), entry.patterns.end(), patterns.begin(), patterns.end())) continue;
    const int score = 2 * (entry.ignore_merges == ignore_merges) + (entry.normalize_nfc == normalize_nfc);
    if (score > best_score) best = &entry, best_score = score;
  }
  return best;
}

}  // namespace weft
