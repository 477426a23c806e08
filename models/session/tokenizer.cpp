#include "models/session/tokenizer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "graph/error.h"
#include "models/session/added_tokens.h"
#include "models/session/byte_level.h"
#include "models/session/normal_form.h"
#include "models/session/piece_encoder.h"
#include "models/session/split_regex.h"
#include "models/session/text_pipeline.h"

namespace weft {
namespace {

constexpr size_t kMaxTextBytes = 1 << 30;
constexpr std::string_view kSpaceMark = "\u2581";

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0;;) {
    const size_t next = text.find(from, at);
    out += text.substr(at, next - at);
    if (next == std::string_view::npos) return out;
    out += to;
    at = next + from.size();
  }
}

bool is_added(TokenType type) {
  return type == TokenType::control || type == TokenType::user_defined || type == TokenType::unknown;
}

/// The bytes a token stands for.
std::string bytes_of(const TokenizerSpec& spec, size_t id) {
  const std::string& token = spec.tokens[id];
  const TokenType type = spec.types[id];
  if (spec.kind == TokenizerKind::byte_level_bpe) {
    if (is_added(type) || type == TokenType::unused) return token;
    return from_printable_bytes(token).value_or(token);
  }
  if (type == TokenType::byte) return std::string(1, static_cast<char>(*byte_of_token(token)));
  return type == TokenType::control ? token : replace_all(token, kSpaceMark, " ");
}

/// Buffers of one call to encode.
struct Scratch {
  BpeMerger merger;
  std::vector<std::string_view> pieces, finer;
};

}  // namespace

struct Tokenizer::Tables {
  explicit Tables(TokenizerSpec given) : spec((given.check(), std::move(given))), encoder(spec) {
    if (spec.stepwise) pipeline.emplace(spec);
    for (const std::string& pattern : spec.split_patterns) patterns.emplace_back(pattern);
    for (size_t id = 0; id < spec.tokens.size(); ++id) pieces.push_back(spell(id));
    read_added();
  }

  bool byte_level() const { return spec.kind == TokenizerKind::byte_level_bpe; }

  /// The bytes a token stands for, wherever in a text it is.
  std::string spell(size_t id) const {
    if (!pipeline) return bytes_of(spec, id);
    return literal(id) ? spec.tokens[id] : pipeline->decode({spec.tokens[id]}, false);
  }

  bool special(size_t id) const { return spec.types[id] == TokenType::control || spec.types[id] == TokenType::unknown; }

  /// Whether the decoders leave a token alone.
  bool literal(size_t id) const { return special(id) || (byte_level() && is_added(spec.types[id])); }

  void read_added() {
    std::vector<AddedTokenRule> rules = spec.added_rules;
    std::sort(rules.begin(), rules.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
    auto rule = rules.begin();
    for (size_t i = 0; i < spec.tokens.size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      while (rule != rules.end() && rule->id < id) ++rule;
      if (!is_added(spec.types[i]) || spec.tokens[i].empty()) continue;
      const AddedTokenRule own = rule != rules.end() && rule->id == id ? *rule : AddedTokenRule{.id = id};
      const bool control = spec.types[i] != TokenType::user_defined;
      if (own.normalized) normalized.add(normalize(spec.tokens[i]), control, own);
      else raw.add(control || pipeline ? spec.tokens[i] : pieces[i], control, own);
    }
    raw.sort();
    normalized.sort();
  }

  /// NFC and SentencePiece's spaces, without the prefix; or the steps.
  std::string normalize(std::string_view text) const {
    bool first = true;
    if (pipeline) return pipeline->normalize(text, first);
    std::string out = spec.normalize_nfc ? to_normal_form(text, NormalForm::nfc) : std::string(text);
    return byte_level() ? out : replace_all(out, " ", kSpaceMark);
  }

  void encode_segment(const TextSegment& segment, bool parse_special, Scratch& scratch,
                      std::vector<int32_t>& ids) const {
    if (pipeline) return encode_steps(segment, parse_special, scratch, ids);
    std::string text = normalize(segment.text);
    if (spec.add_space_prefix && spec.space_prefix == SpacePrefix::always) text.insert(0, space());
    for (const TextSegment& part : normalized.split(text, parse_special)) {
      if (part.id >= 0) ids.push_back(part.id);
      else encode_part(part.text, segment.begin + part.begin == 0, scratch, ids);
    }
  }

  void encode_steps(const TextSegment& segment, bool parse_special, Scratch& scratch, std::vector<int32_t>& ids) const {
    bool first = segment.begin == 0;
    const std::string text = pipeline->normalize(segment.text, first);
    for (const TextSegment& part : normalized.split(text, parse_special)) {
      if (part.id >= 0) {
        ids.push_back(part.id);
        continue;
      }
      for (const TextPiece& piece : pipeline->cut(part.text, first && part.begin == 0)) {
        encoder.encode(piece.text, scratch.merger, ids);
      }
    }
  }

  void encode_part(std::string_view text, bool first, Scratch& scratch, std::vector<int32_t>& ids) const {
    std::string prefixed;
    const bool wanted = spec.space_prefix == SpacePrefix::unless_space ||
                        (spec.space_prefix == SpacePrefix::first_unless_space && first);
    if (spec.add_space_prefix && wanted && !text.starts_with(space())) {
      prefixed.append(space()).append(text);
      text = prefixed;
    }
    scratch.pieces.assign(1, text);
    for (const SplitRegex& pattern : patterns) {
      scratch.finer.clear();
      for (const std::string_view piece : scratch.pieces) pattern.split(piece, scratch.finer);
      std::swap(scratch.pieces, scratch.finer);
    }
    for (const std::string_view piece : scratch.pieces) encoder.encode(piece, scratch.merger, ids);
  }

  std::string decode_steps(std::span<const int32_t> ids, DecodeOptions options) const {
    std::string text;
    std::vector<std::string_view> run;
    bool start = options.strip_space_prefix;
    const auto flush = [&] {
      if (run.empty()) return;
      text += pipeline->decode(run, start);
      run.clear();
      start = false;
    };
    for (const int32_t given : ids) {
      const auto id = static_cast<size_t>(given);
      if (special(id) && options.skip_special) continue;
      if (!literal(id)) {
        run.push_back(spec.tokens[id]);
        continue;
      }
      flush();
      text += pieces[id];
      start = false;
    }
    flush();
    return text;
  }

  std::string_view space() const { return byte_level() ? std::string_view(" ") : kSpaceMark; }

  TokenizerSpec spec;
  PieceEncoder encoder;
  std::optional<TextPipeline> pipeline;
  std::vector<SplitRegex> patterns;
  std::vector<std::string> pieces;  // by id
  AddedTokens raw, normalized;      // looked for before and after normalization
};

Tokenizer::Tokenizer(TokenizerSpec spec) : tables_(std::make_unique<Tables>(std::move(spec))) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  require(text.size() <= kMaxTextBytes, "tokenizer: a text of {} bytes, the limit is {}", text.size(), kMaxTextBytes);
  const TokenizerSpec& own = tables_->spec;
  Scratch scratch;
  std::vector<int32_t> ids;
  if (options.add_special && own.add_bos) ids.push_back(*own.bos);
  for (const TextSegment& segment : tables_->raw.split(text, options.parse_special)) {
    if (segment.id >= 0) ids.push_back(segment.id);
    else tables_->encode_segment(segment, options.parse_special, scratch, ids);
  }
  if (options.add_special && own.add_eos) ids.push_back(*own.eos);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, DecodeOptions options) const {
  if (tables_->pipeline) {
    for (const int32_t id : ids) piece(id);  // in range
    return tables_->decode_steps(ids, options);
  }
  std::string text;
  const bool sentencepiece = !tables_->byte_level();
  bool strip = options.strip_space_prefix && sentencepiece && tables_->spec.add_space_prefix;
  for (const int32_t id : ids) {
    std::string_view bytes = piece(id);
    if (is_special(id)) {
      if (!options.skip_special) text += bytes;
      continue;
    }
    if (strip && bytes.starts_with(' ')) bytes.remove_prefix(1);
    strip = strip && piece(id).empty();
    text += bytes;
  }
  return text;
}

const std::string& Tokenizer::piece(int32_t id) const {
  require(id >= 0 && id < size(), "token id {} is out of range, the vocabulary has {} tokens", id, size());
  return tables_->pieces[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(int32_t id) const {
  require(id >= 0 && id < size(), "token id {} is out of range, the vocabulary has {} tokens", id, size());
  return tables_->special(static_cast<size_t>(id));
}

bool Tokenizer::is_end(int32_t id) const {
  const auto& ends = tables_->spec.end_of_turn;
  return id == tables_->spec.eos || std::find(ends.begin(), ends.end(), id) != ends.end();
}

int32_t Tokenizer::size() const { return static_cast<int32_t>(tables_->spec.tokens.size()); }

const TokenizerSpec& Tokenizer::spec() const { return tables_->spec; }

}  // namespace weft
