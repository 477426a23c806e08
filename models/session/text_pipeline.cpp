#include "models/session/text_pipeline.h"

#include <algorithm>
#include <utility>

#include "graph/error.h"
#include "models/session/byte_level.h"
#include "models/session/normal_form.h"
#include "models/session/utf8.h"

namespace weft {
namespace {

constexpr size_t kMaxBytes = 1 << 30;

void check_size(size_t bytes) {
  require(bytes <= kMaxBytes, "tokenizer: a text grows beyond {} bytes while it is normalized", kMaxBytes);
}

std::string replace_text(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (size_t at = 0;;) {
    const size_t next = text.find(from, at);
    out += text.substr(at, next - at);
    if (next == std::string_view::npos) return out;
    out += to;
    check_size(out.size());
    at = next + from.size();
  }
}

std::string replace_matches(std::string_view text, const SplitRegex& regex, std::string_view to) {
  std::string out;
  for (const RegexSpan& span : regex.spans(text)) {
    out += span.match ? to : text.substr(span.begin, span.end - span.begin);
    check_size(out.size());
  }
  return out;
}

/// Joins spans to pieces: every match goes with its neighbour before it, or behind it.
/// Source: SplitDelimiterBehavior in Hugging Face tokenizers' normalizer.rs, also for runs of matches.
std::vector<RegexSpan> join_matches(std::vector<RegexSpan> spans, bool to_next) {
  if (to_next) std::reverse(spans.begin(), spans.end());
  std::vector<RegexSpan> out;
  bool after_match = false;
  for (const RegexSpan& span : spans) {
    if (span.match && !after_match && !out.empty()) {
      out.back().begin = std::min(out.back().begin, span.begin);
      out.back().end = std::max(out.back().end, span.end);
    } else {
      out.push_back(span);
    }
    after_match = span.match;
  }
  if (to_next) std::reverse(out.begin(), out.end());
  return out;
}

std::vector<RegexSpan> pieces_of(TextOp op, std::vector<RegexSpan> spans) {
  const bool others =
      op == TextOp::split_kept || op == TextOp::split_others_to_previous || op == TextOp::split_others_to_next;
  if (others) {
    for (RegexSpan& span : spans) span.match = !span.match;
  }
  switch (op) {
    case TextOp::split_removed:
    case TextOp::split_kept:
      std::erase_if(spans, [](const RegexSpan& span) { return span.match; });
      return spans;
    case TextOp::split_contiguous: {
      std::vector<RegexSpan> out;
      for (const RegexSpan& span : spans) {
        if (!out.empty() && out.back().match == span.match) out.back().end = span.end;
        else out.push_back(span);
      }
      return out;
    }
    case TextOp::split_to_previous:
    case TextOp::split_others_to_previous:
      return join_matches(std::move(spans), false);
    case TextOp::split_to_next:
    case TextOp::split_others_to_next:
      return join_matches(std::move(spans), true);
    default:
      return spans;
  }
}

bool has_regex(TextOp op) {
  return op == TextOp::replace || (op >= TextOp::split_isolated && op <= TextOp::split_others_to_next);
}

}  // namespace

TextPipeline::TextPipeline(const TokenizerSpec& spec)
    : normalizers_(compile(spec.normalizers)),
      pre_tokenizers_(compile(spec.pre_tokenizers)),
      decoders_(compile(spec.decoders)) {
  const auto maps = [](const Step& step) { return step.step.op == TextOp::charsmap; };
  if (std::any_of(normalizers_.begin(), normalizers_.end(), maps)) charsmap_.emplace(spec.charsmap);
}

std::vector<TextPipeline::Step> TextPipeline::compile(const TextSteps& steps) {
  std::vector<Step> out;
  for (const TextStep& step : steps) {
    out.push_back({step, has_regex(step.op) ? std::optional<SplitRegex>(step.arguments.at(0)) : std::nullopt});
  }
  return out;
}

std::string TextPipeline::change(const Step& step, std::string_view text, bool first) const {
  const auto argument = [&](size_t i) -> const std::string& { return step.step.arguments[i]; };
  switch (step.step.op) {
    case TextOp::nfc:
      return to_normal_form(text, NormalForm::nfc);
    case TextOp::nfd:
      return to_normal_form(text, NormalForm::nfd);
    case TextOp::nfkc:
      return to_normal_form(text, NormalForm::nfkc);
    case TextOp::nfkd:
      return to_normal_form(text, NormalForm::nfkd);
    case TextOp::lowercase:
      return to_lowercase(text);
    case TextOp::strip_left:
      return std::string(text.substr(leading_space_end(text)));
    case TextOp::strip_right:
      return std::string(text.substr(0, trailing_space_begin(text)));
    case TextOp::strip_marks:
      return without_marks(text);
    case TextOp::replace:
      return replace_matches(text, *step.regex, argument(1));
    case TextOp::replace_text:
      return replace_text(text, argument(0), argument(1));
    case TextOp::prepend:
      return text.empty() ? std::string() : argument(0) + std::string(text);
    case TextOp::prepend_first:
      if (!first) return std::string(text);
      [[fallthrough]];
    case TextOp::prepend_once:
      return text.starts_with(argument(0)) ? std::string(text) : argument(0) + std::string(text);
    case TextOp::charsmap:
      return charsmap_->apply(text, kMaxBytes);
    case TextOp::byte_level:
      return to_printable_bytes(text);
    default:
      return std::string(text);
  }
}

std::string TextPipeline::normalize(std::string_view text, bool& first) const {
  std::string out(text);
  for (const Step& step : normalizers_) {
    std::string changed = change(step, out, first);
    if (step.step.op == TextOp::strip_left && changed.size() != out.size()) first = false;
    check_size(changed.size());
    out = std::move(changed);
  }
  return out;
}

std::vector<TextPiece> TextPipeline::cut(std::string_view text, bool first) const {
  std::vector<TextPiece> pieces;
  if (!text.empty()) pieces.push_back({std::string(text), first});
  for (const Step& step : pre_tokenizers_) {
    std::vector<TextPiece> next;
    for (TextPiece& piece : pieces) {
      if (!step.regex) {
        std::string changed = change(step, piece.text, piece.first);
        if (!changed.empty()) next.push_back({std::move(changed), piece.first});
        continue;
      }
      for (const RegexSpan& span : pieces_of(step.step.op, step.regex->spans(piece.text))) {
        if (span.end == span.begin) continue;
        next.push_back({piece.text.substr(span.begin, span.end - span.begin), piece.first && span.begin == 0});
      }
    }
    pieces = std::move(next);
  }
  return pieces;
}

std::string TextPipeline::decode_step(const Step& step, std::string_view text, bool first, bool start) {
  const auto argument = [&](size_t i) -> const std::string& { return step.step.arguments[i]; };
  switch (step.step.op) {
    case TextOp::from_byte_level:
      return from_printable_bytes(text).value_or(std::string(text));
    case TextOp::byte_fallback: {
      const auto byte = byte_of_token(text);
      return byte ? std::string(1, static_cast<char>(*byte)) : std::string(text);
    }
    case TextOp::replace:
      return replace_matches(text, *step.regex, argument(1));
    case TextOp::replace_text:
      return replace_text(text, argument(0), argument(1));
    case TextOp::erase_first:
      return first && start ? replace_text(text, argument(0), "") : std::string(text);
    case TextOp::drop_leading:
      for (size_t n = start ? drop_count(step.step) : 0; n > 0 && text.starts_with(argument(0)); --n) {
        text.remove_prefix(argument(0).size());
      }
      return std::string(text);
    case TextOp::drop_trailing:
      for (size_t n = drop_count(step.step); n > 0 && text.ends_with(argument(0)); --n) {
        text.remove_suffix(argument(0).size());
      }
      return std::string(text);
    default:
      return std::string(text);
  }
}

std::string TextPipeline::decode(const std::vector<std::string_view>& tokens, bool start) const {
  const auto fuse =
      std::find_if(decoders_.begin(), decoders_.end(), [](const Step& step) { return step.step.op == TextOp::fuse; });
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::string token(tokens[i]);
    for (auto step = decoders_.begin(); step != fuse; ++step) token = decode_step(*step, token, i == 0, start);
    text += token;
  }
  for (auto step = fuse; step != decoders_.end(); ++step) text = decode_step(*step, text, true, start);
  return text;
}

}  // namespace weft
