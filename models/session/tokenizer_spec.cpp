#include "models/session/tokenizer_spec.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include "models/session/pre_tokenizers.h"
#include "models/session/special_tokens.h"

namespace weft {
namespace {

constexpr std::string_view kModel = "tokenizer.ggml.model";
constexpr std::string_view kPre = "tokenizer.ggml.pre";
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kScores = "tokenizer.ggml.scores";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";
constexpr std::string_view kBos = "tokenizer.ggml.bos_token_id";
constexpr std::string_view kEos = "tokenizer.ggml.eos_token_id";
constexpr std::string_view kUnknown = "tokenizer.ggml.unknown_token_id";
constexpr std::string_view kPadding = "tokenizer.ggml.padding_token_id";
constexpr std::string_view kEot = "tokenizer.ggml.eot_token_id";
constexpr std::string_view kEom = "tokenizer.ggml.eom_token_id";
constexpr std::string_view kAddBos = "tokenizer.ggml.add_bos_token";
constexpr std::string_view kAddEos = "tokenizer.ggml.add_eos_token";
constexpr std::string_view kAddSpace = "tokenizer.ggml.add_space_prefix";
constexpr std::string_view kExtraSpaces = "tokenizer.ggml.remove_extra_whitespaces";
constexpr std::string_view kCharsmap = "tokenizer.ggml.precompiled_charsmap";  // array of u8 or i8
// What GGUF has no key for. Each is written only where reading without it would give another tokenizer.
constexpr std::string_view kPatterns = "tokenizer.weft.split_patterns";     // array of PCRE2 regexes
constexpr std::string_view kIgnoreMerges = "tokenizer.weft.ignore_merges";  // bool
constexpr std::string_view kNfc = "tokenizer.weft.normalize_nfc";           // bool
constexpr std::string_view kSpacePrefix = "tokenizer.weft.space_prefix";    // always, unless_space, first_unless_space
constexpr std::string_view kFuseUnknown = "tokenizer.weft.fuse_unknown";    // bool
constexpr std::string_view kNormalizers = "tokenizer.weft.normalizers";     // arrays of steps (text_steps.h)
constexpr std::string_view kPreTokenizers = "tokenizer.weft.pre_tokenizers";
constexpr std::string_view kDecoders = "tokenizer.weft.decoders";
constexpr std::string_view kEndOfTurn = "tokenizer.weft.end_of_turn_ids";    // array of ids
constexpr std::string_view kRuleIds = "tokenizer.weft.added_token_ids";      // array of ids, and beside it
constexpr std::string_view kRuleFlags = "tokenizer.weft.added_token_flags";  // 1 lstrip 2 rstrip 4 single 8 normalized

constexpr std::string_view kModelNames[] = {"gpt2", "llama", "t5"};  // by kind
constexpr std::string_view kSpacePrefixNames[] = {"always", "unless_space", "first_unless_space"};

int32_t checked_id(std::string_view key, int64_t id, size_t n_tokens) {
  require(id >= 0 && static_cast<uint64_t>(id) < n_tokens, "{} is {}, the vocabulary has {} tokens", key, id, n_tokens);
  return static_cast<int32_t>(id);
}

std::optional<int32_t> read_id(const Metadata& metadata, std::string_view key, size_t n_tokens) {
  if (!metadata.has(key)) return std::nullopt;
  const int64_t id = metadata.integer(key);
  if (id == -1 || id == std::numeric_limits<uint32_t>::max()) return std::nullopt;  // some writers' "none"
  return checked_id(key, id, n_tokens);
}

std::vector<int32_t> read_ids(const Metadata& metadata, std::string_view key, size_t n_tokens) {
  std::vector<int32_t> ids;
  for (const int64_t id : metadata.integers(key)) ids.push_back(checked_id(key, id, n_tokens));
  return ids;
}

std::vector<TokenType> read_types(const Metadata& metadata, size_t n_tokens) {
  if (!metadata.has(kTypes)) return std::vector<TokenType>(n_tokens, TokenType::normal);
  std::vector<TokenType> types;
  for (const int64_t type : metadata.integers(kTypes)) {
    require(type >= 0 && type <= 6, "{}[{}] is {}, expected 1 to 6", kTypes, types.size(), type);
    types.push_back(type == 0 ? TokenType::normal : static_cast<TokenType>(type));  // 0: undefined, written by some
  }
  require(types.size() == n_tokens, "{} has {} entries, {} has {}", kTypes, types.size(), kTokens, n_tokens);
  return types;
}

void read_pre_tokenizer(const Metadata& metadata, TokenizerSpec& spec) {
  spec.pre_tokenizer = metadata.text(kPre, "");
  const bool byte_level = spec.kind == TokenizerKind::byte_level_bpe;
  if (metadata.has(kPatterns)) {
    spec.split_patterns = metadata.texts(kPatterns);
    spec.pre_tokenizer.clear();
  } else if (byte_level) {
    if (spec.pre_tokenizer.empty()) spec.pre_tokenizer = "default";
    const PreTokenizer* known = find_pre_tokenizer(spec.pre_tokenizer);
    if (known == nullptr) {
      std::string names;
      for (const PreTokenizer& entry : pre_tokenizers()) names.append(names.empty() ? "" : " ").append(entry.name);
      fail("{} is {}, known are: {}", kPre, to_string(MetaValue(spec.pre_tokenizer)), names);
    }
    spec.split_patterns.assign(known->patterns.begin(), known->patterns.end());
    spec.ignore_merges = known->ignore_merges;
    spec.normalize_nfc = known->normalize_nfc;
    spec.add_bos = known->add_bos;
  } else {
    spec.pre_tokenizer.clear();  // "default": SentencePiece has none
  }
  spec.ignore_merges = metadata.boolean(kIgnoreMerges, spec.ignore_merges);
  spec.normalize_nfc = metadata.boolean(kNfc, spec.normalize_nfc);
}

void read_special(const Metadata& metadata, TokenizerSpec& spec) {
  const size_t n = spec.tokens.size();
  spec.bos = read_id(metadata, kBos, n);
  spec.eos = read_id(metadata, kEos, n);
  spec.unknown = read_id(metadata, kUnknown, n);
  spec.padding = read_id(metadata, kPadding, n);
  std::vector<int32_t> ends;
  for (const std::string_view key : {kEot, kEom}) {
    if (const auto id = read_id(metadata, key, n)) ends.push_back(*id);
  }
  if (!metadata.has(kTypes)) {
    for (const auto& id : {spec.bos, spec.eos, spec.padding}) {
      if (id) spec.types[static_cast<size_t>(*id)] = TokenType::control;
    }
    for (const int32_t id : ends) spec.types[static_cast<size_t>(id)] = TokenType::control;
  }
  if (metadata.has(kEndOfTurn)) {
    ends = read_ids(metadata, kEndOfTurn, n);
  } else {
    for (const int32_t id : guess_end_of_turn(spec)) ends.push_back(id);
    if (spec.eos) std::erase(ends, *spec.eos);
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  spec.end_of_turn = std::move(ends);
}

void read_rules(const Metadata& metadata, TokenizerSpec& spec) {
  if (!metadata.has(kRuleIds)) return;
  const auto ids = read_ids(metadata, kRuleIds, spec.tokens.size());
  const auto flags = metadata.integers(kRuleFlags);
  require(ids.size() == flags.size(), "{} has {} entries, {} has {}", kRuleFlags, flags.size(), kRuleIds, ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    require(flags[i] >= 0 && flags[i] < 16, "{}[{}] is {}, expected 0 to 15", kRuleFlags, i, flags[i]);
    spec.added_rules.push_back(
        {ids[i], (flags[i] & 1) != 0, (flags[i] & 2) != 0, (flags[i] & 4) != 0, (flags[i] & 8) != 0});
  }
}

std::string read_charsmap(const Metadata& metadata) {
  std::string bytes;
  if (!metadata.has(kCharsmap)) return bytes;
  for (const int64_t byte : metadata.integers(kCharsmap)) {
    require(byte >= -128 && byte < 256, "{}[{}] is {}, expected a byte", kCharsmap, bytes.size(), byte);
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

/// What the standard keys say of a unigram tokenizer: SentencePiece's way with spaces.
void sentencepiece_steps(bool removes_extra, bool prefix, TokenizerSpec& spec) {
  const std::string mark = "\u2581";
  spec.normalizers.clear();
  if (!spec.charsmap.empty()) spec.normalizers.push_back({TextOp::charsmap, {}});
  if (removes_extra) {
    spec.normalizers.push_back({TextOp::replace, {"\\A +| +\\z", ""}});
    spec.normalizers.push_back({TextOp::replace, {" {2,}", " "}});
  }
  spec.pre_tokenizers = {{TextOp::replace_text, {" ", mark}}};
  if (prefix) spec.pre_tokenizers.push_back({TextOp::prepend_once, {mark}});
  spec.decoders = {{TextOp::replace_text, {mark, " "}}, {TextOp::byte_fallback, {}}, {TextOp::fuse, {}}};
  if (prefix) spec.decoders.push_back({TextOp::drop_leading, {" ", "1"}});
}

bool collapses_spaces(const TextSteps& normalizers) {
  return std::any_of(normalizers.begin(), normalizers.end(), [](const TextStep& step) {
    return step.op == TextOp::replace && step.arguments.at(0) == " {2,}";
  });
}

/// The steps that the file's other keys stand for; none where the short form says it all.
void named_steps(const Metadata& metadata, TokenizerSpec& spec) {
  const PreTokenizer* known = find_pre_tokenizer(metadata.text(kPre, ""));
  if (spec.kind == TokenizerKind::unigram) {
    sentencepiece_steps(metadata.boolean(kExtraSpaces, false), spec.add_space_prefix, spec);
  } else if (spec.kind == TokenizerKind::byte_level_bpe && known != nullptr && known->cuts_bytes) {
    spec.pre_tokenizers = falcon_steps();
    spec.decoders = {{TextOp::from_byte_level, {}}};
  } else {
    return;
  }
  spec.stepwise = true;
}

void read_steps_of(const Metadata& metadata, TokenizerSpec& spec) {
  spec.charsmap = read_charsmap(metadata);
  spec.fuse_unknown = metadata.boolean(kFuseUnknown, true);
  if (metadata.has(kPatterns)) return;  // the short form, in full
  named_steps(metadata, spec);
  if (!metadata.has(kPreTokenizers)) return;
  spec.stepwise = true;
  spec.normalizers = read_steps(metadata.texts(kNormalizers), StepList::normalizers, kNormalizers);
  spec.pre_tokenizers = read_steps(metadata.texts(kPreTokenizers), StepList::pre_tokenizers, kPreTokenizers);
  spec.decoders = read_steps(metadata.texts(kDecoders), StepList::decoders, kDecoders);
}

SpacePrefix read_space_prefix(const Metadata& metadata, TokenizerKind kind) {
  if (!metadata.has(kSpacePrefix)) {
    return kind == TokenizerKind::byte_level_bpe ? SpacePrefix::unless_space : SpacePrefix::always;
  }
  const std::string& name = metadata.text(kSpacePrefix);
  const auto it = std::find(std::begin(kSpacePrefixNames), std::end(kSpacePrefixNames), name);
  require(it != std::end(kSpacePrefixNames), "{} is {}, expected always, unless_space or first_unless_space",
          kSpacePrefix, to_string(MetaValue(name)));
  return static_cast<SpacePrefix>(it - std::begin(kSpacePrefixNames));
}

/// Writes a value, or removes what an earlier tokenizer left under the key.
template <typename T>
void put_if(Metadata& metadata, std::string_view key, bool wanted, const T& value) {
  if (wanted) metadata.set(key, value);
  else metadata.erase(key);
}

void put_id(Metadata& metadata, std::string_view key, std::optional<int32_t> id) {
  put_if(metadata, key, id.has_value(), static_cast<uint32_t>(id.value_or(0)));
}

}  // namespace

std::optional<uint8_t> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<uint8_t>(value);
}

std::optional<TokenizerSpec> TokenizerSpec::from_metadata(const Metadata& metadata) {
  const std::string model = metadata.text(kModel, "none");
  if (model == "none" || model == "no_vocab") return std::nullopt;
  const auto* kind = std::find(std::begin(kModelNames), std::end(kModelNames), model);
  require(kind != std::end(kModelNames), "{} is {}, supported are gpt2, llama and t5", kModel,
          to_string(MetaValue(model)));
  TokenizerSpec spec;
  spec.kind = static_cast<TokenizerKind>(kind - std::begin(kModelNames));
  const bool byte_level = spec.kind == TokenizerKind::byte_level_bpe;
  spec.tokens = metadata.texts(kTokens);
  require(!spec.tokens.empty(), "{} is empty", kTokens);
  spec.types = read_types(metadata, spec.tokens.size());
  if (metadata.has(kScores) && !byte_level) {
    const auto scores = metadata.reals(kScores);
    spec.scores.assign(scores.begin(), scores.end());
  }
  if (metadata.has(kMerges)) spec.merges = metadata.texts(kMerges);
  read_pre_tokenizer(metadata, spec);
  read_special(metadata, spec);
  read_rules(metadata, spec);
  if (spec.kind == TokenizerKind::sentencepiece_bpe) spec.add_bos = spec.bos.has_value();
  spec.add_bos = metadata.boolean(kAddBos, spec.add_bos && spec.bos.has_value());
  spec.add_eos = metadata.boolean(kAddEos, false);
  spec.add_space_prefix = metadata.boolean(kAddSpace, !byte_level);
  spec.space_prefix = read_space_prefix(metadata, spec.kind);
  read_steps_of(metadata, spec);
  if (spec.stepwise) spec.split_patterns.clear(), spec.normalize_nfc = false;
  spec.check();
  return spec;
}

void TokenizerSpec::write_steps_to(Metadata& metadata) const {
  put_if(metadata, kCharsmap, !charsmap.empty(), MetaArray(std::vector<uint8_t>(charsmap.begin(), charsmap.end())));
  put_if(metadata, kFuseUnknown, !fuse_unknown, fuse_unknown);
  // Of the ways the standard keys can say, the one that comes to these steps; if none does, they are written.
  TokenizerSpec told = *this;
  bool removes_extra = false, said = !stepwise;
  if (stepwise && kind == TokenizerKind::unigram) {
    for (const bool extra : {false, true}) {
      sentencepiece_steps(extra, add_space_prefix, told);
      if (told.same_steps(*this)) removes_extra = extra, said = true;
    }
    if (!said) removes_extra = collapses_spaces(normalizers);
  } else if (stepwise) {
    Metadata name;
    name.set(kPre, pre_tokenizer);
    told.normalizers.clear();
    told.pre_tokenizers.clear();
    told.decoders.clear();
    told.stepwise = false;
    named_steps(name, told);
    said = told.stepwise && told.same_steps(*this);
  }
  put_if(metadata, kExtraSpaces, kind == TokenizerKind::unigram, removes_extra);
  put_if(metadata, kNormalizers, !said, MetaArray(write_steps(normalizers)));
  put_if(metadata, kPreTokenizers, !said, MetaArray(write_steps(pre_tokenizers)));
  put_if(metadata, kDecoders, !said, MetaArray(write_steps(decoders)));
}

bool TokenizerSpec::same_steps(const TokenizerSpec& other) const {
  return normalizers == other.normalizers && pre_tokenizers == other.pre_tokenizers && decoders == other.decoders;
}

void TokenizerSpec::write_metadata(Metadata& metadata) const {
  check();
  const bool byte_level = kind == TokenizerKind::byte_level_bpe;
  const PreTokenizer* known = find_pre_tokenizer(pre_tokenizer);
  // A name is written only where it stands for just these patterns.
  // Steps are written out in full and beside them the nearest name, for the programs that know no better.
  if (known != nullptr && !stepwise && (known->cuts_bytes || !std::ranges::equal(known->patterns, split_patterns))) {
    known = nullptr;
  }
  metadata.set(kModel, std::string(kModelNames[static_cast<size_t>(kind)]));
  put_if(metadata, kPre, !byte_level || known != nullptr, std::string(known ? known->name : "default"));
  put_if(metadata, kPatterns, !stepwise && known == nullptr && (byte_level || !split_patterns.empty()),
         MetaArray(split_patterns));
  put_if(metadata, kIgnoreMerges, ignore_merges != (known && known->ignore_merges), ignore_merges);
  put_if(metadata, kNfc, !stepwise && normalize_nfc != (known && known->normalize_nfc), normalize_nfc);
  write_steps_to(metadata);

  std::vector<int32_t> type_ids;
  for (const TokenType type : types) type_ids.push_back(static_cast<int32_t>(type));
  metadata.set(kTokens, MetaArray(tokens));
  put_if(metadata, kScores, !byte_level && !scores.empty(), MetaArray(scores));
  metadata.set(kTypes, MetaArray(std::move(type_ids)));
  put_if(metadata, kMerges, !merges.empty(), MetaArray(merges));
  put_id(metadata, kBos, bos);
  put_id(metadata, kEos, eos);
  put_id(metadata, kUnknown, unknown);
  put_id(metadata, kPadding, padding);
  const bool ends_told = end_of_turn == guess_end_of_turn(*this);
  put_id(metadata, kEot, ends_told || end_of_turn.empty() ? std::nullopt : std::optional(end_of_turn.front()));
  metadata.erase(kEom);
  put_if(metadata, kEndOfTurn, !ends_told, MetaArray(end_of_turn));
  metadata.set(kAddBos, add_bos);
  metadata.set(kAddEos, add_eos);
  metadata.set(kAddSpace, add_space_prefix);
  const SpacePrefix usual = stepwise ? space_prefix : byte_level ? SpacePrefix::unless_space : SpacePrefix::always;
  put_if(metadata, kSpacePrefix, add_space_prefix && space_prefix != usual,
         std::string(kSpacePrefixNames[static_cast<size_t>(space_prefix)]));

  std::vector<int32_t> ids, flags;
  for (const AddedTokenRule& rule : added_rules) {
    ids.push_back(rule.id);
    flags.push_back(rule.lstrip | rule.rstrip << 1 | rule.single_word << 2 | rule.normalized << 3);
  }
  put_if(metadata, kRuleIds, !ids.empty(), MetaArray(ids));
  put_if(metadata, kRuleFlags, !ids.empty(), MetaArray(flags));
}

void TokenizerSpec::check() const {
  const size_t n = tokens.size();
  require(n > 0 && n <= static_cast<size_t>(std::numeric_limits<int32_t>::max()), "a vocabulary of {} tokens", n);
  require(types.size() == n, "vocabulary: {} token types for {} tokens", types.size(), n);
  require(scores.empty() || scores.size() == n, "vocabulary: {} scores for {} tokens", scores.size(), n);
  const bool scored = kind != TokenizerKind::byte_level_bpe;
  require(!scored || !scores.empty() || !merges.empty(), "vocabulary: neither scores nor merges");
  require(kind != TokenizerKind::unigram || (!scores.empty() && stepwise), "vocabulary: a unigram one without scores");
  check_steps(normalizers, StepList::normalizers, "normalizers");
  check_steps(pre_tokenizers, StepList::pre_tokenizers, "pre_tokenizers");
  check_steps(decoders, StepList::decoders, "decoders");
  const bool maps = std::any_of(normalizers.begin(), normalizers.end(),
                                [](const TextStep& step) { return step.op == TextOp::charsmap; });
  require(!maps || !charsmap.empty(), "normalizers: charsmap without one");
  const auto bad = std::find_if(scores.begin(), scores.end(), [](float s) { return !std::isfinite(s); });
  require(bad == scores.end(), "vocabulary: the score of token {} is not finite", bad - scores.begin());
  for (size_t id = 0; id < n; ++id) {
    if (scored && types[id] == TokenType::byte && !byte_of_token(tokens[id])) {
      fail("vocabulary: byte token {} is {}, expected <0xHH>", id, to_string(MetaValue(tokens[id])));
    }
  }
  for (size_t i = 0; i < merges.size(); ++i) {
    const size_t space = merges[i].find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == merges[i].size() ||
        merges[i].find(' ', space + 1) != std::string::npos) {
      fail("vocabulary: merge {} is {}, expected a left and a right part", i, to_string(MetaValue(merges[i])));
    }
  }
  const auto in_range = [&](std::string_view what, int32_t id) { checked_id(what, id, n); };
  if (bos) in_range("the begin-of-text token's id", *bos);
  if (eos) in_range("the end-of-text token's id", *eos);
  if (unknown) in_range("the unknown token's id", *unknown);
  if (padding) in_range("the padding token's id", *padding);
  for (const int32_t id : end_of_turn) in_range("an end-of-turn token's id", id);
  for (const AddedTokenRule& rule : added_rules) in_range("an added token's id", rule.id);
  require(!add_bos || bos, "a begin-of-text token is to be added, but there is none");
  require(!add_eos || eos, "an end-of-text token is to be added, but there is none");
}

}  // namespace weft
