#include "models/session/text_steps.h"

#include <algorithm>
#include <charconv>

#include "graph/error.h"
#include "models/metadata.h"

namespace weft {
namespace {

constexpr size_t kMaxSteps = 64;
constexpr int kText = 1, kPiece = 2, kToken = 4;  // where a step may stand

struct Row {
  TextOp op;
  std::string_view name;
  size_t n_arguments;
  int where;
};

constexpr Row kRows[] = {
    {TextOp::nfc, "nfc", 0, kText},
    {TextOp::nfd, "nfd", 0, kText},
    {TextOp::nfkc, "nfkc", 0, kText},
    {TextOp::nfkd, "nfkd", 0, kText},
    {TextOp::lowercase, "lowercase", 0, kText},
    {TextOp::strip_left, "strip_left", 0, kText},
    {TextOp::strip_right, "strip_right", 0, kText},
    {TextOp::strip_marks, "strip_marks", 0, kText},
    {TextOp::replace, "replace", 2, kText | kToken},
    {TextOp::replace_text, "replace_text", 2, kText | kPiece | kToken},
    {TextOp::prepend, "prepend", 1, kText},
    {TextOp::prepend_once, "prepend_once", 1, kPiece},
    {TextOp::prepend_first, "prepend_first", 1, kPiece},
    {TextOp::charsmap, "charsmap", 0, kText},
    {TextOp::byte_level, "byte_level", 0, kText | kPiece},
    {TextOp::split_isolated, "split_isolated", 1, kPiece},
    {TextOp::split_contiguous, "split_contiguous", 1, kPiece},
    {TextOp::split_removed, "split_removed", 1, kPiece},
    {TextOp::split_kept, "split_kept", 1, kPiece},
    {TextOp::split_to_previous, "split_to_previous", 1, kPiece},
    {TextOp::split_to_next, "split_to_next", 1, kPiece},
    {TextOp::split_others_to_previous, "split_others_to_previous", 1, kPiece},
    {TextOp::split_others_to_next, "split_others_to_next", 1, kPiece},
    {TextOp::from_byte_level, "from_byte_level", 0, kToken},
    {TextOp::byte_fallback, "byte_fallback", 0, kToken},
    {TextOp::erase_first, "erase_first", 1, kToken},
    {TextOp::drop_leading, "drop_leading", 2, kToken},
    {TextOp::drop_trailing, "drop_trailing", 2, kToken},
    {TextOp::fuse, "fuse", 0, kToken},
};

const Row& row_of(TextOp op) {
  return *std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& row) { return row.op == op; });
}

int bit_of(StepList list) {
  return list == StepList::normalizers ? kText : list == StepList::pre_tokenizers ? kPiece : kToken;
}

}  // namespace

size_t drop_count(const TextStep& step) {
  const std::string& text = step.arguments.at(1);
  uint16_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  require(error == std::errc() && end == text.data() + text.size(), "{}: {} is not a count", row_of(step.op).name,
          to_string(MetaValue(text)));
  return count;
}

std::vector<std::string> write_steps(const TextSteps& steps) {
  std::vector<std::string> out;
  for (const TextStep& step : steps) {
    out.emplace_back(row_of(step.op).name);
    out.insert(out.end(), step.arguments.begin(), step.arguments.end());
  }
  return out;
}

TextSteps read_steps(std::span<const std::string> strings, StepList list, std::string_view what) {
  TextSteps steps;
  for (size_t i = 0; i < strings.size();) {
    const std::string& name = strings[i++];
    const Row* row = std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) { return r.name == name; });
    if (row == std::end(kRows)) fail("{}: unknown step {}", what, to_string(MetaValue(name)));
    require(strings.size() - i >= row->n_arguments, "{}: {} lacks an argument", what, name);
    const auto arguments = strings.subspan(i, row->n_arguments);
    steps.push_back({row->op, {arguments.begin(), arguments.end()}});
    i += row->n_arguments;
  }
  check_steps(steps, list, what);
  return steps;
}

void check_steps(const TextSteps& steps, StepList list, std::string_view what) {
  require(steps.size() <= kMaxSteps, "{}: {} steps, the limit is {}", what, steps.size(), kMaxSteps);
  for (const TextStep& step : steps) {
    const Row& row = row_of(step.op);
    require((row.where & bit_of(list)) != 0, "{}: {} does not belong there", what, row.name);
    require(step.arguments.size() == row.n_arguments, "{}: {} has {} arguments, expected {}", what, row.name,
            step.arguments.size(), row.n_arguments);
    const bool needs_text = row.n_arguments > 0 && step.op != TextOp::replace && step.op != TextOp::prepend;
    require(!needs_text || !step.arguments[0].empty(), "{}: {} has an empty argument", what, row.name);
    if (step.op == TextOp::drop_leading || step.op == TextOp::drop_trailing) drop_count(step);
  }
}

}  // namespace weft
