#include "convert/tokenizer_pipeline.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "convert/base64.h"
#include "convert/oniguruma.h"
#include "convert/printable.h"
#include "graph/error.h"
#include "models/session/pre_tokenizers.h"

namespace weft {
namespace {

using nlohmann::json;

constexpr std::string_view kSpaceMark = "\u2581";
constexpr std::string_view kDigitPattern = R"(\p{N})";
constexpr std::string_view kPunctuationPattern = R"([\p{P}!-/:-@\[-`{-~])";

/// A member, or null where it is absent.
const json& member(const json& object, std::string_view key) {
  static const json null;
  const auto it = object.find(key);
  return it == object.end() ? null : *it;
}

/// Calls `read(stage, type)` for a stage, or for each stage of a (nested) Sequence.
template <typename Read>
void each_stage(const json& stage, std::string_view what, std::string_view list, const Read& read) {
  if (stage.is_null()) return;
  const std::string type = text_of(stage, what, "type");
  if (type != "Sequence") return read(stage, type);
  only_keys(stage, what, {"type", list});
  const json& stages = member(stage, list);
  require(stages.is_array(), "{}: {} is not an array", what, list);
  for (const json& part : stages) each_stage(part, what, list, read);
}

/// A pattern {"String": s} or {"Regex": r}: which, and the text.
std::pair<std::string, std::string> pattern_of(const json& stage, std::string_view what) {
  const json& pattern = member(stage, "pattern");
  only_keys(pattern, fmt::format("{} pattern", what), {"String", "Regex"});
  require(pattern.size() == 1, "{}: pattern is neither a String nor a Regex", what);
  const std::string kind = pattern.begin().key();
  return {kind, text_of(pattern, what, kind)};
}

/// A pattern as a PCRE2 regex.
std::string regex_of(const json& stage, std::string_view what) {
  const auto [kind, pattern] = pattern_of(stage, what);
  require(!pattern.empty(), "{}: an empty pattern", what);
  return kind == "String" ? quote_regex(pattern) : pcre_from_oniguruma(pattern);
}

TextStep replace_step(const json& stage, std::string_view what) {
  only_keys(stage, what, {"type", "pattern", "content"});
  const auto [kind, pattern] = pattern_of(stage, what);
  require(!pattern.empty(), "{}: an empty pattern", what);
  std::string content = text_of(stage, what, "content");
  if (kind == "String") return {TextOp::replace_text, {pattern, std::move(content)}};
  return {TextOp::replace, {pcre_from_oniguruma(pattern), std::move(content)}};
}

std::optional<TextOp> plain_normalizer(std::string_view type) {
  constexpr std::pair<std::string_view, TextOp> kPlain[] = {{"NFC", TextOp::nfc},
                                                            {"NFD", TextOp::nfd},
                                                            {"NFKC", TextOp::nfkc},
                                                            {"NFKD", TextOp::nfkd},
                                                            {"Lowercase", TextOp::lowercase},
                                                            {"StripAccents", TextOp::strip_marks},
                                                            {"ByteLevel", TextOp::byte_level}};
  for (const auto& [name, op] : kPlain) {
    if (name == type) return op;
  }
  return std::nullopt;
}

void read_normalizer(const json& stage, const std::string& type, TokenizerPipeline& out) {
  const std::string what = "normalizer " + printable(type);
  TextSteps& steps = out.normalizers;
  if (const auto plain = plain_normalizer(type)) {
    only_keys(stage, what, {"type"});
    steps.push_back({*plain, {}});
    out.byte_level |= plain == TextOp::byte_level;
  } else if (type == "Strip") {
    only_keys(stage, what, {"type", "strip_left", "strip_right"});
    if (flag_of(stage, what, "strip_left", true)) steps.push_back({TextOp::strip_left, {}});
    if (flag_of(stage, what, "strip_right", true)) steps.push_back({TextOp::strip_right, {}});
  } else if (type == "Prepend") {
    only_keys(stage, what, {"type", "prepend"});
    steps.push_back({TextOp::prepend, {text_of(stage, what, "prepend")}});
  } else if (type == "Replace") {
    steps.push_back(replace_step(stage, what));
  } else if (type == "Precompiled") {
    only_keys(stage, what, {"type", "precompiled_charsmap"});
    if (member(stage, "precompiled_charsmap").is_null() || text_of(stage, what, "precompiled_charsmap").empty()) return;
    require(out.charsmap.empty(), "{} stands there twice", what);
    out.charsmap = from_base64(text_of(stage, what, "precompiled_charsmap"), what);
    require(!out.charsmap.empty(), "{}: an empty precompiled_charsmap", what);
    steps.push_back({TextOp::charsmap, {}});
  } else {
    fail("{} is not supported", what);
  }
}

void read_byte_level(const json& stage, TokenizerPipeline& out) {
  const std::string_view what = "pre_tokenizer ByteLevel";
  only_keys(stage, what, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  require(!out.byte_level, "{} stands there twice", what);
  out.byte_level = true;
  if (flag_of(stage, what, "add_prefix_space", true)) out.pre_tokenizers.push_back({TextOp::prepend_once, {" "}});
  if (flag_of(stage, what, "use_regex", true)) {
    out.pre_tokenizers.push_back({TextOp::split_isolated, {std::string(kGpt2Pattern)}});
  }
  out.pre_tokenizers.push_back({TextOp::byte_level, {}});
}

/// What puts a Metaspace's prefix in front, which has two spellings; none: "never".
std::optional<TextOp> metaspace_prefix(const json& stage, std::string_view what) {
  const json& scheme = member(stage, "prepend_scheme");
  if (scheme.is_null()) {
    return flag_of(stage, what, "add_prefix_space", true) ? std::optional(TextOp::prepend_once) : std::nullopt;
  }
  if (scheme == "always") return TextOp::prepend_once;
  if (scheme == "first") return TextOp::prepend_first;
  require(scheme == "never", "{}: prepend_scheme is {}", what, printable(scheme.dump()));
  return std::nullopt;
}

std::string metaspace_mark(const json& stage, std::string_view what) {
  only_keys(stage, what, {"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"});
  std::string mark = text_of(stage, what, "replacement");
  require(!mark.empty() && mark.size() <= 4, "{}: replacement is \"{}\", expected a character", what, printable(mark));
  return mark;
}

void read_metaspace(const json& stage, TokenizerPipeline& out) {
  const std::string_view what = "pre_tokenizer Metaspace";
  const std::string mark = metaspace_mark(stage, what);
  out.pre_tokenizers.push_back({TextOp::replace_text, {" ", mark}});
  if (const auto prefix = metaspace_prefix(stage, what)) out.pre_tokenizers.push_back({*prefix, {mark}});
  if (flag_of(stage, what, "split", true)) out.pre_tokenizers.push_back({TextOp::split_to_next, {quote_regex(mark)}});
}

TextOp split_op(std::string_view behavior, bool invert, std::string_view what) {
  if (behavior == "Isolated") return TextOp::split_isolated;
  if (behavior == "Contiguous") return TextOp::split_contiguous;
  if (behavior == "Removed") return invert ? TextOp::split_kept : TextOp::split_removed;
  if (behavior == "MergedWithPrevious") return invert ? TextOp::split_others_to_previous : TextOp::split_to_previous;
  if (behavior == "MergedWithNext") return invert ? TextOp::split_others_to_next : TextOp::split_to_next;
  fail("{}: behavior {} is not supported", what, printable(behavior));
}

void read_split(const json& stage, TokenizerPipeline& out) {
  const std::string_view what = "pre_tokenizer Split";
  only_keys(stage, what, {"type", "pattern", "behavior", "invert"});
  const TextOp op = split_op(text_of(stage, what, "behavior"), flag_of(stage, what, "invert", false), what);
  out.pre_tokenizers.push_back({op, {regex_of(stage, what)}});
}

void read_pre_tokenizer(const json& stage, const std::string& type, TokenizerPipeline& out) {
  const std::string what = "pre_tokenizer " + printable(type);
  const auto split = [&](TextOp op, std::string_view pattern) {
    out.pre_tokenizers.push_back({op, {std::string(pattern)}});
  };
  if (type == "ByteLevel") {
    read_byte_level(stage, out);
  } else if (type == "Split") {
    read_split(stage, out);
  } else if (type == "Metaspace") {
    read_metaspace(stage, out);
  } else if (type == "Digits") {
    only_keys(stage, what, {"type", "individual_digits"});
    const bool single = flag_of(stage, what, "individual_digits", false);
    split(single ? TextOp::split_isolated : TextOp::split_contiguous, kDigitPattern);
  } else if (type == "Punctuation") {
    only_keys(stage, what, {"type", "behavior"});
    const std::string behavior = stage.contains("behavior") ? text_of(stage, what, "behavior") : "Isolated";
    split(split_op(behavior, false, what), kPunctuationPattern);
  } else if (type == "Whitespace") {
    only_keys(stage, what, {"type"});
    const std::string word = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control})";
    split(TextOp::split_kept, "[" + word + "]+|[^" + word + R"(\p{White_Space}]+)");
  } else if (type == "WhitespaceSplit") {
    only_keys(stage, what, {"type"});
    split(TextOp::split_removed, R"(\p{White_Space})");
  } else {
    fail("{} is not supported", what);
  }
}

void read_decoder(const json& stage, const std::string& type, TokenizerPipeline& out) {
  const std::string what = "decoder " + printable(type);
  TextSteps& steps = out.decoders;
  if (type == "ByteLevel") {
    only_keys(stage, what, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
    require(out.byte_level, "{} without a pre_tokenizer ByteLevel", what);
    steps.push_back({TextOp::from_byte_level, {}});
  } else if (type == "Replace") {
    steps.push_back(replace_step(stage, what));
  } else if (type == "Strip") {
    only_keys(stage, what, {"type", "content", "start", "stop"});
    const std::string content = text_of(stage, what, "content");
    for (const auto& [key, op] : {std::pair("start", TextOp::drop_leading), std::pair("stop", TextOp::drop_trailing)}) {
      const int32_t count = id_of(member(stage, key), what);
      require(count <= 1024, "{}: {} is {}", what, key, count);
      if (count > 0) steps.push_back({op, {content, std::to_string(count)}});
    }
  } else if (type == "Metaspace") {
    const std::string mark = metaspace_mark(stage, what);
    if (metaspace_prefix(stage, what)) steps.push_back({TextOp::erase_first, {mark}});
    steps.push_back({TextOp::replace_text, {mark, " "}});
  } else {
    require(type == "ByteFallback" || type == "Fuse", "{} is not supported", what);
    only_keys(stage, what, {"type"});
    steps.push_back({type == "Fuse" ? TextOp::fuse : TextOp::byte_fallback, {}});
  }
}

/// Steps that change nothing are left out: a split at spaces where none are left (Gemma's).
void drop_idle_steps(TokenizerPipeline& out) {
  const TextStep marks{TextOp::replace_text, {" ", std::string(kSpaceMark)}};
  if (out.normalizers.empty() || out.normalizers.back() != marks) return;
  std::erase_if(out.pre_tokenizers, [](const TextStep& step) {
    return step.op >= TextOp::split_isolated && step.op <= TextOp::split_others_to_next &&
           step.arguments[0] == quote_regex(" ");
  });
}

/// What TokenizerSpec says without steps: a prefix, then pieces that regexes isolate.
struct ShortForm {
  bool marks_spaces = false, nfc = false;
  std::optional<SpacePrefix> prefix;
  std::vector<std::string> patterns;
};

/// The regex whose matches a split makes pieces, where it does just that.
std::optional<std::string> isolating(const TextStep& step) {
  if (step.op == TextOp::split_isolated) return step.arguments[0];
  // Inverted removal drops what a pattern does not match, but the known ones that end like this match everything.
  if (step.op == TextOp::split_kept && step.arguments[0].ends_with(R"(|\s+(?!\S)|\s+)") &&
      name_pre_tokenizer(step.arguments, true, false) != nullptr) {
    return step.arguments[0];
  }
  if (step.op != TextOp::split_contiguous) return std::nullopt;
  const std::string& pattern = step.arguments[0];
  const bool one_character = pattern == kDigitPattern || pattern == kPunctuationPattern;
  return one_character ? std::optional(pattern + "+") : std::nullopt;
}

std::optional<ShortForm> short_form(const TokenizerPipeline& pipeline) {
  const TextStep marks{TextOp::replace_text, {" ", std::string(kSpaceMark)}};
  ShortForm out;
  for (const TextStep& step : pipeline.normalizers) {
    if (step.op == TextOp::nfc && !out.prefix && !out.marks_spaces && !out.nfc) out.nfc = true;
    else if (step == TextStep{TextOp::prepend, {std::string(kSpaceMark)}} && !out.prefix && !out.marks_spaces)
      out.prefix = SpacePrefix::always;
    else if (step == marks && !out.marks_spaces) out.marks_spaces = true;
    else return std::nullopt;
  }
  const bool normalized = out.prefix || out.marks_spaces;
  const TextSteps& steps = pipeline.pre_tokenizers;
  for (size_t i = 0; i < steps.size(); ++i) {
    const TextStep& step = steps[i];
    const std::string_view space = pipeline.byte_level ? std::string_view(" ") : kSpaceMark;
    const bool prefixes = step.op == TextOp::prepend_once || step.op == TextOp::prepend_first;
    if (step == marks && i == 0 && !normalized) {
      out.marks_spaces = true;
    } else if (prefixes && step.arguments[0] == space && !out.prefix && out.patterns.empty()) {
      out.prefix = step.op == TextOp::prepend_once ? SpacePrefix::unless_space : SpacePrefix::first_unless_space;
    } else if (step == TextStep{TextOp::split_to_next, {std::string(kSpaceMark)}} && i + 1 == steps.size()) {
      out.patterns.emplace_back(R"(\x{2581}[^\x{2581}]*|[^\x{2581}]+)");
    } else if (step.op == TextOp::byte_level && i + 1 == steps.size()) {
    } else if (const auto pattern = isolating(step)) {
      out.patterns.push_back(*pattern);
    } else {
      return std::nullopt;
    }
  }
  return out;
}

/// Whether the decoders are those that the short form stands for.
bool decodes_shortly(const TokenizerPipeline& pipeline, const ShortForm& form) {
  if (pipeline.byte_level) return pipeline.decoders == TextSteps{{TextOp::from_byte_level, {}}};
  const std::string mark(kSpaceMark);
  TextSteps steps = pipeline.decoders;
  std::erase_if(steps, [](const TextStep& s) { return s.op == TextOp::byte_fallback || s.op == TextOp::fuse; });
  const bool fused = steps.size() != pipeline.decoders.size();
  const TextStep spaces{TextOp::replace_text, {mark, " "}};
  if (!form.prefix) return steps == TextSteps{spaces};
  if (fused) return steps == TextSteps{spaces, {TextOp::drop_leading, {" ", "1"}}};
  return steps == TextSteps{{TextOp::erase_first, {mark}}, spaces};
}

/// A template's special token as an id.
int32_t template_id(const json& processor, const json& item) {
  const std::string_view what = "post_processor TemplateProcessing";
  const std::string name = text_of(member(item, "SpecialToken"), what, "id");
  const json& ids = member(member(member(processor, "special_tokens"), name), "ids");
  require(ids.is_array() && ids.size() == 1, "{}: {} does not stand for one id", what, printable(name));
  return id_of(ids[0], what);
}

void read_post_processor(const json& stage, const std::string& type, TokenizerPipeline& out) {
  if (type == "ByteLevel") return;  // moves offsets only
  require(type == "TemplateProcessing", "post_processor {} is not supported", printable(type));
  const std::string_view what = "post_processor TemplateProcessing";
  only_keys(stage, what, {"type", "single", "pair", "special_tokens"});
  const json& single = member(stage, "single");
  require(single.is_array() && !out.has_template, "{}: expected one with an array \"single\"", what);
  out.has_template = true;
  bool sequence = false;
  for (const json& item : single) {
    only_keys(item, what, {"SpecialToken", "Sequence"});
    if (item.contains("Sequence")) {
      require(!sequence, "{}: more than one sequence", what);
      sequence = true;
    } else {
      std::optional<int32_t>& slot = sequence ? out.last : out.first;
      require(!slot, "{}: more than one special token {} the text", what, sequence ? "behind" : "in front of");
      slot = template_id(stage, item);
    }
  }
  require(sequence, "{}: has no sequence", what);
}

}  // namespace

void only_keys(const json& object, std::string_view what, std::initializer_list<std::string_view> keys) {
  require(object.is_object(), "{} is not an object", what);
  for (const auto& [key, value] : object.items()) {
    require(std::find(keys.begin(), keys.end(), key) != keys.end(), "{}: unknown key {}", what, printable(key));
  }
}

bool flag_of(const json& object, std::string_view what, std::string_view key, bool otherwise) {
  const json& value = member(object, key);
  if (value.is_null()) return otherwise;
  if (!value.is_boolean()) fail("{}: {} is {}, expected true or false", what, key, printable(value.dump()));
  return value.get<bool>();
}

std::string text_of(const json& object, std::string_view what, std::string_view key) {
  require(object.is_object(), "{} is not an object", what);
  const json& value = member(object, key);
  require(value.is_string(), "{}: {} is {}, expected a string", what, key,
          value.is_null() ? "missing" : value.type_name());
  return value.get<std::string>();
}

int32_t id_of(const json& value, std::string_view what) {
  if (!value.is_number_integer()) fail("{}: id {} is not an integer", what, printable(value.dump()));
  const auto id = value.get<int64_t>();
  if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
    fail("{}: id {} is out of range", what, printable(value.dump()));
  }
  return static_cast<int32_t>(id);
}

TokenizerPipeline read_pipeline(const json& root) {
  TokenizerPipeline out;
  const auto reader = [&](auto read) { return [&out, read](const json& s, const std::string& t) { read(s, t, out); }; };
  each_stage(member(root, "normalizer"), "normalizer", "normalizers", reader(read_normalizer));
  each_stage(member(root, "pre_tokenizer"), "pre_tokenizer", "pretokenizers", reader(read_pre_tokenizer));
  drop_idle_steps(out);
  if (member(root, "decoder").is_null()) {
    require(out.byte_level, "decoder: missing, which puts a space between any two tokens");
    out.decoders.push_back({TextOp::from_byte_level, {}});
  }
  each_stage(member(root, "decoder"), "decoder", "decoders", reader(read_decoder));
  each_stage(member(root, "post_processor"), "post_processor", "processors", reader(read_post_processor));
  return out;
}

void put_pipeline(const TokenizerPipeline& pipeline, TokenizerSpec& spec) {
  const auto form = short_form(pipeline);
  const bool spaces = form && (form->marks_spaces != pipeline.byte_level);
  if (spec.kind != TokenizerKind::unigram && spaces && decodes_shortly(pipeline, *form)) {
    spec.normalize_nfc = form->nfc;
    spec.add_space_prefix = form->prefix.has_value();
    spec.space_prefix = form->prefix.value_or(SpacePrefix::always);
    spec.split_patterns = form->patterns;
    if (!pipeline.byte_level) return;
    const auto* known = name_pre_tokenizer(spec.split_patterns, spec.ignore_merges, spec.normalize_nfc);
    if (known != nullptr && !known->cuts_bytes) spec.pre_tokenizer = known->name;
    return;
  }
  spec.stepwise = true;
  spec.normalizers = pipeline.normalizers;
  spec.pre_tokenizers = pipeline.pre_tokenizers;
  spec.decoders = pipeline.decoders;
  spec.charsmap = pipeline.charsmap;
  spec.add_space_prefix = std::any_of(spec.pre_tokenizers.begin(), spec.pre_tokenizers.end(), [](const TextStep& step) {
    return step.op == TextOp::prepend_once || step.op == TextOp::prepend_first;
  });
  if (spec.pre_tokenizers == falcon_steps()) spec.pre_tokenizer = "falcon";
}

}  // namespace weft
