#include "graph/spans.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace weft {
namespace {

void erase_all(std::string& text, std::string_view part) {
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at)) text.erase(at, part.size());
}

}  // namespace

SpanReport report_spans(const Spans& spans, int64_t steps) {
  SpanReport report{.steps = steps, .lost = spans.lost, .rows = {}};
  if (spans.list.empty()) return report;
  std::vector<const Span*> order;
  for (const Span& span : spans.list) order.push_back(&span);
  std::ranges::sort(order, [](const Span* a, const Span* b) {
    return a->start_ns != b->start_ns ? a->start_ns < b->start_ns : a->end_ns < b->end_ns;
  });
  const double per_step = 1e-3 / static_cast<double>(steps);  // microseconds a step of a nanosecond of all
  std::map<std::string_view, SpanReport::Row> rows;
  int64_t end = order.front()->start_ns;  // the latest so far
  uint64_t launch = 0;                    // whose
  for (const Span* span : order) {
    SpanReport::Row& row = rows[span->name];
    const auto gap = static_cast<double>(std::max<int64_t>(span->start_ns - end, 0)) * per_step;
    (launch != 0 && launch == span->launch ? report.gap_us : report.between_gap_us) += gap;
    const auto added = static_cast<double>(std::max<int64_t>(span->end_ns - end, 0)) * per_step;
    ++row.count;
    row.gap_us += gap;
    row.added_us += added;
    row.mean_us += static_cast<double>(span->end_ns - span->start_ns) * 1e-3;
    report.step_us += added;
    if (span->end_ns < end) continue;
    end = span->end_ns;
    launch = span->launch;
  }
  report.busy_us = report.step_us - report.gap_us - report.between_gap_us;
  for (auto& [name, row] : rows) {
    row.name = name;
    row.mean_us /= static_cast<double>(row.count);
    report.rows.push_back(std::move(row));
  }
  std::ranges::stable_sort(report.rows, std::ranges::greater{}, &SpanReport::Row::added_us);
  return report;
}

std::string SpanReport::table() const {
  constexpr size_t kWidth = 52;
  std::string text = fmt::format("{:<{}} {:>9} {:>10} {:>7} {:>10} {:>9}\n", "kernel, each step", kWidth, "calls",
                                 "adds us", "share", "of it gap", "mean us");
  for (const Row& row : rows) {
    const std::string name = row.name.size() <= kWidth ? row.name : row.name.substr(0, kWidth - 3) + "...";
    text += fmt::format("{:<{}} {:>9.2f} {:>10.2f} {:>6.1f}% {:>10.2f} {:>9.2f}\n", name, kWidth,
                        static_cast<double>(row.count) / static_cast<double>(steps), row.added_us,
                        step_us > 0 ? 100 * row.added_us / step_us : 0, row.gap_us, row.mean_us);
  }
  return text;
}

std::string short_kernel_name(std::string text) {
  for (const std::string_view part : {"(anonymous namespace)::", "weft::cuda::", "weft::"}) erase_all(text, part);
  if (text.starts_with("void ")) text.erase(0, std::strlen("void "));
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '<') ++depth;
    else if (text[i] == '>') --depth;
    else if (text[i] == '(' && depth == 0 && i > 0) return text.substr(0, i);
  }
  return text;
}

}  // namespace weft
