#include "convert/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <utility>

#include "convert/json_parse.h"
#include "convert/printable.h"
#include "convert/tokenizer_pipeline.h"
#include "graph/error.h"
#include "models/session/special_tokens.h"

namespace weft {
namespace {

using nlohmann::json;

/// The vocabulary while it is read: tokens by id, ids by token.
struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<TokenType> types;  // unused: nothing has that id
  std::unordered_map<std::string, int32_t> ids;

  /// Makes room for ids up to `largest`, if `n_entries` can account for so many.
  void grow(int32_t largest, size_t n_entries) {
    require(static_cast<size_t>(largest) < 4 * n_entries + 1024, "id {} is out of range for {} tokens", largest,
            n_entries);
    if (static_cast<size_t>(largest) < tokens.size()) return;
    tokens.resize(static_cast<size_t>(largest) + 1);
    types.resize(tokens.size(), TokenType::unused);
  }

  void put(const std::string& token, int32_t id, TokenType type) {
    const auto slot = static_cast<size_t>(id);
    const auto [it, added] = ids.emplace(token, id);
    if (it->second != id) fail("token \"{}\" has the ids {} and {}", printable(token), it->second, id);
    if (added && types[slot] != TokenType::unused) {
      fail("id {} stands for \"{}\" and \"{}\"", id, printable(tokens[slot]), printable(token));
    }
    tokens[slot] = token;
    types[slot] = type;
  }

  int32_t at(const std::string& token, std::string_view what) const {
    const auto it = ids.find(token);
    if (it == ids.end()) fail("{} \"{}\" is not in the vocabulary", what, printable(token));
    return it->second;
  }
};

bool is_set(const json& object, std::string_view key) {
  const auto it = object.find(key);
  return it != object.end() && !it->is_null() && *it != "" && *it != false && *it != 0;
}

/// A unigram model's vocabulary as an object, token to id, as BPE has it.
json unigram_vocabulary(const json& model, std::vector<float>& scores) {
  only_keys(model, "model", {"type", "unk_id", "vocab", "byte_fallback"});
  require(model.contains("vocab") && model["vocab"].is_array(), "model: vocab is not an array");
  json vocab = json::object();
  for (const json& entry : model["vocab"]) {
    const bool pair = entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number();
    if (!pair) fail("model: vocab entry {} is {}, expected [token, score]", scores.size(), printable(entry.dump()));
    const auto& token = entry[0].get_ref<const std::string&>();
    const auto [it, added] = vocab.emplace(token, scores.size());
    require(added, "model: the token \"{}\" is there twice", printable(token));
    scores.push_back(entry[1].get<float>());
  }
  return vocab;
}

void check_bpe(const json& model) {
  only_keys(model, "model",
            {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
             "byte_fallback", "ignore_merges", "vocab", "merges"});
  for (const std::string_view key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    if (is_set(model, key)) fail("model: {} is {}, which is not supported", key, printable(model.at(key).dump()));
  }
  require(model.contains("vocab") && model["vocab"].is_object(), "model: vocab is not an object");
  require(model.contains("merges") && model["merges"].is_array(), "model: merges is not an array");
}

Vocabulary read_vocabulary(const json& vocab, const json& added, bool byte_fallback) {
  const size_t n_entries = vocab.size() + added.size();
  Vocabulary out;
  out.ids.reserve(n_entries);
  for (const auto& [token, value] : vocab.items()) {
    const int32_t id = id_of(value, "model vocab");
    out.grow(id, n_entries);
    const bool upper = std::none_of(token.begin(), token.end(), [](char c) { return c >= 'a' && c <= 'f'; });
    const bool byte = byte_fallback && upper && byte_of_token(token).has_value();
    out.put(token, id, byte ? TokenType::byte : TokenType::normal);
  }
  for (const json& token : added) {
    only_keys(token, "added_tokens", {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    require(token.contains("id"), "added_tokens: an entry without id");
    const int32_t id = id_of(token["id"], "added_tokens");
    out.grow(id, n_entries);
    const bool special = flag_of(token, "added_tokens", "special", false);
    out.put(text_of(token, "added_tokens", "content"), id, special ? TokenType::control : TokenType::user_defined);
  }
  for (size_t id = 0; id < out.tokens.size(); ++id) {
    if (out.types[id] == TokenType::unused) out.tokens[id] = fmt::format("[UNUSED{}]", id);
  }
  return out;
}

std::vector<AddedTokenRule> read_rules(const json& added) {
  std::vector<AddedTokenRule> rules;
  for (const json& token : added) {
    const auto flag = [&](std::string_view key, bool otherwise) {
      return flag_of(token, "added_tokens", key, otherwise);
    };
    const AddedTokenRule rule{.id = id_of(token["id"], "added_tokens"),
                              .lstrip = flag("lstrip", false),
                              .rstrip = flag("rstrip", false),
                              .single_word = flag("single_word", false),
                              .normalized = flag("normalized", !flag("special", false))};
    if (rule != AddedTokenRule{.id = rule.id}) rules.push_back(rule);
  }
  std::sort(rules.begin(), rules.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return rules;
}

std::vector<std::string> read_merges(const json& merges) {
  std::vector<std::string> out;
  out.reserve(merges.size());
  for (const json& merge : merges) {
    if (merge.is_string()) {
      out.push_back(merge.get<std::string>());
    } else {
      if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) {
        fail("model: merge {} is {}, expected \"left right\" or [left, right]", out.size(), printable(merge.dump()));
      }
      const auto &left = merge[0].get_ref<const std::string&>(), &right = merge[1].get_ref<const std::string&>();
      require(left.find(' ') == std::string::npos && right.find(' ') == std::string::npos,
              "model: merge {} has a part with a space, which GGUF cannot hold", out.size());
      out.push_back(left + " " + right);
    }
  }
  return out;
}

/// Scores that merge in the order of `merges`, for programs that know SentencePiece only: the token made first scores
/// 0, the next -1, and so on; those never made come last. Control and byte tokens score 0.
std::vector<float> scores_of(const TokenizerSpec& spec, const Vocabulary& vocabulary) {
  std::vector<float> scores(spec.tokens.size(), 1.0f);  // 1: not yet known
  float next = 0;
  for (const std::string& merge : spec.merges) {
    std::string whole = merge;
    whole.erase(std::min(whole.find(' '), whole.size()), 1);
    const auto it = vocabulary.ids.find(whole);
    if (it == vocabulary.ids.end()) continue;
    float& score = scores[static_cast<size_t>(it->second)];
    if (score > 0) score = next--;
  }
  for (size_t id = 0; id < scores.size(); ++id) {
    if (scores[id] > 0) scores[id] = spec.types[id] == TokenType::normal ? next-- : 0.0f;
  }
  return scores;
}

/// A token that tokenizer_config.json names as text or as {"content": text}.
std::optional<std::string> config_token(const json& config, std::string_view key) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return std::nullopt;
  return it->is_object() ? text_of(*it, key, "content") : text_of(config, "tokenizer_config.json", key);
}

/// Padding is of no use here, so a name that the vocabulary does not have is as good as none.
std::optional<int32_t> padding_of(const json* config, const Vocabulary& vocabulary) {
  const auto token = config == nullptr ? std::nullopt : config_token(*config, "pad_token");
  const auto it = token ? vocabulary.ids.find(*token) : vocabulary.ids.end();
  return it == vocabulary.ids.end() ? std::nullopt : std::optional(it->second);
}

void read_special(const json* config, const TokenizerPipeline& pipeline, const Vocabulary& vocabulary,
                  TokenizerSpec& spec) {
  const auto named = [&](std::string_view key, std::optional<int32_t> otherwise) -> std::optional<int32_t> {
    if (config == nullptr || !config->contains(key)) return otherwise;
    const auto token = config_token(*config, key);
    return token ? std::optional(vocabulary.at(*token, key)) : std::nullopt;
  };
  spec.bos = named("bos_token", guess_bos(spec));
  spec.eos = named("eos_token", guess_eos(spec));
  spec.padding = padding_of(config, vocabulary);
  if (pipeline.has_template) {
    spec.add_bos = pipeline.first.has_value();
    spec.add_eos = pipeline.last.has_value();
    if (pipeline.first) spec.bos = pipeline.first;
    if (pipeline.last) spec.eos = pipeline.last;
  } else if (config != nullptr) {
    spec.add_bos = spec.bos && flag_of(*config, "tokenizer_config.json", "add_bos_token", false);
    spec.add_eos = spec.eos && flag_of(*config, "tokenizer_config.json", "add_eos_token", false);
  }
  spec.end_of_turn = guess_end_of_turn(spec);
}

TokenizerSpec read(const json& root, const json* config) {
  only_keys(root, "tokenizer",
            {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
             "decoder", "model"});
  require(root.value("version", "") == "1.0", "tokenizer: version is not \"1.0\"");
  require(root.contains("model"), "tokenizer: model is missing");
  const json& model = root["model"];
  const std::string type = model.is_object() && model.contains("type") ? text_of(model, "model", "type") : "BPE";
  require(type == "BPE" || type == "Unigram", "model {} is not supported, expected BPE or Unigram", printable(type));
  const bool unigram = type == "Unigram";
  TokenizerSpec spec;
  json unigram_vocab;
  if (unigram) unigram_vocab = unigram_vocabulary(model, spec.scores);
  else check_bpe(model);
  const json none = json::array();
  const json& added = root.contains("added_tokens") && !root["added_tokens"].is_null() ? root["added_tokens"] : none;
  require(added.is_array(), "added_tokens is not an array");
  const TokenizerPipeline pipeline = read_pipeline(root);
  const bool byte_fallback = flag_of(model, "model", "byte_fallback", false);
  require(!byte_fallback || !pipeline.byte_level, "model: byte_fallback in a byte-level tokenizer is not supported");

  Vocabulary vocabulary = read_vocabulary(unigram ? unigram_vocab : model["vocab"], added, byte_fallback);
  require(!vocabulary.tokens.empty(), "model: vocab is empty");
  spec.kind = unigram               ? TokenizerKind::unigram
              : pipeline.byte_level ? TokenizerKind::byte_level_bpe
                                    : TokenizerKind::sentencepiece_bpe;
  if (unigram && model.contains("unk_id") && !model["unk_id"].is_null()) {
    spec.unknown = id_of(model["unk_id"], "model: unk_id");
    require(static_cast<size_t>(*spec.unknown) < spec.scores.size(), "model: unk_id {} is out of range", *spec.unknown);
  } else if (!unigram && is_set(model, "unk_token")) {
    spec.unknown = vocabulary.at(text_of(model, "model", "unk_token"), "model: unk_token");
  }
  if (spec.unknown && !pipeline.byte_level) {
    vocabulary.types[static_cast<size_t>(*spec.unknown)] = TokenType::unknown;
  }
  spec.tokens = std::move(vocabulary.tokens);
  spec.types = std::move(vocabulary.types);
  if (unigram) {
    spec.scores.resize(spec.tokens.size(), 0.0f);  // added tokens have none
  } else {
    spec.merges = read_merges(model["merges"]);
    if (!pipeline.byte_level) spec.scores = scores_of(spec, vocabulary);
    spec.ignore_merges = flag_of(model, "model", "ignore_merges", false);
    spec.fuse_unknown = !spec.unknown || flag_of(model, "model", "fuse_unk", false);
  }
  spec.added_rules = read_rules(added);
  put_pipeline(pipeline, spec);
  read_special(config, pipeline, vocabulary, spec);
  spec.check();
  return spec;
}

}  // namespace

TokenizerSpec read_tokenizer_json(std::string_view json_text, std::string_view where, std::string_view config_text) {
  const json root = parse_json(json_text, where);
  const json config =
      config_text.empty() ? json() : parse_json(config_text, fmt::format("{}: tokenizer_config.json", where));
  try {
    require(config.is_null() || config.is_object(), "tokenizer_config.json is not an object");
    return read(root, config.is_null() ? nullptr : &config);
  } catch (const Error& error) {
    throw error.at(where);
  } catch (const json::exception& error) {
    fail("{}: {}", where, printable(error.what(), 300));
  }
}

}  // namespace weft
