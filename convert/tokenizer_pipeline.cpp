#include "convert/tokenizer_pipeline.h"

#include <algorithm>
#include <limits>

#include "convert/oniguruma.h"
#include "convert/printable.h"
#include "graph/error.h"
#include "models/session/pre_tokenizers.h"

namespace weft {
namespace {

using nlohmann::json;

constexpr std::string_view kSpaceMark = "\u2581";

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

void read_normalizer(const json& stage, const std::string& type, TokenizerPipeline& out) {
  const std::string what = "normalizer " + printable(type);
  if (type == "NFC") {
    only_keys(stage, what, {"type"});
    out.normalize_nfc = true;
  } else if (type == "Prepend") {
    only_keys(stage, what, {"type", "prepend"});
    const std::string text = text_of(stage, what, "prepend");
    require(text == kSpaceMark, "{}: prepends \"{}\", expected U+2581", what, printable(text));
    out.add_space_prefix = true;
  } else if (type == "Replace") {
    only_keys(stage, what, {"type", "pattern", "content"});
    const auto [kind, pattern] = pattern_of(stage, what);
    const std::string content = text_of(stage, what, "content");
    require(kind == "String" && pattern == " " && content == kSpaceMark,
            "{}: replaces {} \"{}\" by \"{}\", expected a space by U+2581", what, kind, printable(pattern),
            printable(content));
    out.marks_spaces = true;
  } else {
    fail("{} is not supported", what);
  }
}

void read_byte_level(const json& stage, TokenizerPipeline& out) {
  const std::string_view what = "pre_tokenizer ByteLevel";
  only_keys(stage, what, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  require(!out.byte_level, "{} stands there twice", what);
  out.byte_level = true;
  if (flag_of(stage, what, "add_prefix_space", true)) {
    require(out.split_patterns.empty(), "{}: add_prefix_space after another pre-tokenizer is not supported", what);
    out.add_space_prefix = true;
    out.space_prefix = SpacePrefix::unless_space;
  }
  if (flag_of(stage, what, "use_regex", true)) out.split_patterns.emplace_back(kGpt2Pattern);
}

/// The prefix of a Metaspace, which has two spellings; none: "never".
std::optional<SpacePrefix> metaspace_prefix(const json& stage, std::string_view what) {
  const json& scheme = member(stage, "prepend_scheme");
  if (scheme.is_null()) {
    return flag_of(stage, what, "add_prefix_space", true) ? std::optional(SpacePrefix::unless_space) : std::nullopt;
  }
  if (scheme == "always") return SpacePrefix::unless_space;
  if (scheme == "first") return SpacePrefix::first_unless_space;
  require(scheme == "never", "{}: prepend_scheme is {}", what, printable(scheme.dump()));
  return std::nullopt;
}

void check_metaspace(const json& stage, std::string_view what) {
  only_keys(stage, what, {"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"});
  const std::string mark = text_of(stage, what, "replacement");
  require(mark == kSpaceMark, "{}: replacement is \"{}\", expected U+2581", what, printable(mark));
}

void read_metaspace(const json& stage, TokenizerPipeline& out) {
  const std::string_view what = "pre_tokenizer Metaspace";
  check_metaspace(stage, what);
  require(out.split_patterns.empty() && !out.add_space_prefix, "{} after another stage is not supported", what);
  out.marks_spaces = true;
  if (const auto prefix = metaspace_prefix(stage, what)) {
    out.add_space_prefix = true;
    out.space_prefix = *prefix;
  }
  if (flag_of(stage, what, "split", true)) out.split_patterns.emplace_back(R"(\x{2581}[^\x{2581}]*|[^\x{2581}]+)");
}

void read_split(const json& stage, TokenizerPipeline& out) {
  const std::string_view what = "pre_tokenizer Split";
  only_keys(stage, what, {"type", "pattern", "behavior", "invert"});
  const auto [kind, pattern] = pattern_of(stage, what);
  const std::string behavior = text_of(stage, what, "behavior");
  const bool invert = flag_of(stage, what, "invert", false);
  if (out.marks_spaces && kind == "String" && pattern == " ") return;  // no spaces are left to split at
  // Inverted removal drops what the pattern does not match; such patterns match everything, and weft drops no text.
  require(behavior == "Isolated" || (behavior == "Removed" && invert), "{}: behavior {}{} is not supported", what,
          printable(behavior), invert ? ", inverted," : "");
  require(!pattern.empty(), "{}: an empty pattern", what);
  // Behind ByteLevel the text is in its printable form, where only ASCII looks as it does in front of it.
  const bool digits = pattern.find_first_not_of("[]0123456789-+{},") == std::string::npos;
  require(!out.byte_level || digits, "{}: {} after ByteLevel is not supported", what, printable(pattern));
  out.split_patterns.push_back(kind == "String" ? quote_regex(pattern) : pcre_from_oniguruma(pattern));
}

void read_pre_tokenizer(const json& stage, const std::string& type, TokenizerPipeline& out) {
  const std::string what = "pre_tokenizer " + printable(type);
  if (type == "ByteLevel") {
    read_byte_level(stage, out);
  } else if (type == "Split") {
    read_split(stage, out);
  } else if (type == "Metaspace") {
    read_metaspace(stage, out);
  } else if (type == "Digits") {
    only_keys(stage, what, {"type", "individual_digits"});
    const std::string digit = out.byte_level ? "[0-9]" : R"(\p{N})";
    out.split_patterns.push_back(flag_of(stage, what, "individual_digits", false) ? digit : digit + "+");
  } else if (type == "Punctuation") {
    only_keys(stage, what, {"type", "behavior"});
    const std::string behavior = stage.contains("behavior") ? text_of(stage, what, "behavior") : "Isolated";
    require(!out.byte_level, "{} after ByteLevel is not supported", what);
    require(behavior == "Isolated" || behavior == "Contiguous", "{}: behavior {} is not supported", what,
            printable(behavior));
    out.split_patterns.push_back(std::string(R"([\p{P}!-/:-@\[-`{-~])") + (behavior == "Contiguous" ? "+" : ""));
  } else {
    fail("{} is not supported", what);
  }
}

/// Decoding follows from the kind of tokenizer; this checks that the file asks for just that.
void check_decoder(const json& root, const TokenizerPipeline& out) {
  const json& decoder = member(root, "decoder");
  if (decoder.is_null() && out.byte_level) return;
  bool strips = false, marks = false;
  each_stage(decoder, "decoder", "decoders", [&](const json& stage, const std::string& type) {
    const std::string what = "decoder " + printable(type);
    if (type == "ByteLevel") {
      require(out.byte_level, "{} without a pre_tokenizer ByteLevel", what);
    } else if (type == "Replace") {
      only_keys(stage, what, {"type", "pattern", "content"});
      const auto [kind, pattern] = pattern_of(stage, what);
      require(kind == "String" && pattern == kSpaceMark && text_of(stage, what, "content") == " ",
              "{}: replaces \"{}\", expected U+2581 by a space", what, printable(pattern));
      marks = true;
    } else if (type == "Strip") {
      only_keys(stage, what, {"type", "content", "start", "stop"});
      require(text_of(stage, what, "content") == " " && member(stage, "start") == 1 && member(stage, "stop") == 0,
              "{}: {} is not supported", what, printable(stage.dump()));
      strips = true;
    } else if (type == "Metaspace") {
      check_metaspace(stage, what);
      marks = true;
      strips = metaspace_prefix(stage, what).has_value();
    } else {
      require(type == "ByteFallback" || type == "Fuse", "{} is not supported", what);
    }
  });
  if (out.byte_level) return require(!strips && !marks, "decoder: handles U+2581 in a byte-level tokenizer");
  require(marks, "decoder: does not turn U+2581 into spaces");
  require(strips == out.add_space_prefix, "decoder: {} the space that the {} in front",
          strips ? "strips" : "does not strip", out.add_space_prefix ? "normalizer puts" : "normalizer does not put");
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
  require(!out.add_space_prefix || out.marks_spaces, "normalizer Prepend without Replace is not supported");
  each_stage(member(root, "pre_tokenizer"), "pre_tokenizer", "pretokenizers", reader(read_pre_tokenizer));
  require(out.byte_level != out.marks_spaces,
          "expected either a pre_tokenizer ByteLevel or spaces replaced by U+2581, found {}",
          out.byte_level ? "both" : "neither");
  check_decoder(root, out);
  each_stage(member(root, "post_processor"), "post_processor", "processors", reader(read_post_processor));
  return out;
}

}  // namespace weft
