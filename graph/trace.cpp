#include "graph/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

namespace weft {
namespace {

/// As the inside of a JSON string.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) out += fmt::format("\\u{:04x}", c);
    else out += c;
  }
  return out;
}

}  // namespace

double Trace::now_us() const {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start_).count();
}

void Trace::record_run(int64_t tokens, double whole_us, double alone_us) {
  Runs& runs = runs_[tokens];
  ++runs.n;
  runs.whole_us += whole_us;
  runs.alone_us += alone_us;
}

bool Trace::write_chrome(const std::string& path) const {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "w"), std::fclose);
  if (!file) return false;
  fmt::print(file.get(), "{{\"traceEvents\":[");
  const char* separator = "\n";
  for (const Event& e : events_) {
    fmt::print(file.get(),
               "{}{{\"name\":\"{}\",\"cat\":\"{}\",\"ph\":\"X\",\"pid\":1,\"tid\":\"{}\",\"ts\":{:.3f},\"dur\":{:.3f},"
               "\"args\":{{\"scope\":\"{}\",\"kernel\":\"{}\",\"bytes\":{:.0f},\"flops\":{:.0f}}}}}",
               separator, escaped(e.op), e.lowered ? "lowered" : "fused", escaped(e.device), e.start_us, e.time_us,
               escaped(e.scope), escaped(e.kernel), e.cost.bytes(), e.cost.flops);
    separator = ",\n";
  }
  fmt::print(file.get(), "\n]}}\n");
  return std::ferror(file.get()) == 0;
}

std::string Trace::table() const {
  struct Row {
    int calls = 0;
    double time_us = 0, limit_us = 0;
    Cost cost;
  };
  std::map<std::string, Row> rows;
  double total_us = 0;
  for (const Event& e : events_) {
    Row& row = rows[e.kernel + (e.lowered ? " (lowered)" : "")];
    ++row.calls;
    row.time_us += e.time_us;
    row.limit_us += e.limit_us;
    row.cost += e.cost;
    total_us += e.time_us;
  }
  std::vector<std::pair<std::string, Row>> sorted(rows.begin(), rows.end());
  std::ranges::sort(sorted, [](const auto& a, const auto& b) { return a.second.time_us > b.second.time_us; });
  std::string text = fmt::format("{:<36} {:>8} {:>12} {:>7} {:>9} {:>10} {:>9}\n", "kernel", "calls", "time us",
                                 "share", "GB/s", "GFLOP/s", "of limit");
  for (const auto& [name, row] : sorted) {
    text += fmt::format("{:<36} {:>8} {:>12.1f} {:>6.1f}% {:>9.2f} {:>10.2f} {:>8.1f}%\n", name, row.calls, row.time_us,
                        100 * row.time_us / total_us, row.cost.bytes() / row.time_us / 1e3,
                        row.cost.flops / row.time_us / 1e3, 100 * row.limit_us / row.time_us);
  }
  for (const auto& [tokens, runs] : runs_) {
    const double whole = runs.whole_us / runs.n, alone = runs.alone_us / runs.n;
    text += fmt::format("{} runs of {} token{}: {:.1f} us as one, its kernels launched one by one {:.1f} us\n", runs.n,
                        tokens, tokens == 1 ? "" : "s", whole, alone);
  }
  return text;
}

}  // namespace weft
