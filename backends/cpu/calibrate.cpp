#include "backends/cpu/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "backends/cpu/steps.h"

namespace weft::cpu {
namespace {

/// Shortest of a few runs on the first `threads` of the team: everything else on the machine only ever adds time. One
/// run more comes before, uncounted.
template <typename F>
double best_seconds(Team& team, int threads, F member) {
  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  for (int run = 0; run < 8; ++run) {
    const auto start = Clock::now();
    team.run([&](int thread, int) {
      if (thread < threads) member(thread);
    });
    if (run > 0) best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

/// Operations per nanosecond of a probe that returns how many it did.
double rate(Team& team, int threads, double (*probe)(int64_t)) {
  constexpr int64_t kRepeats = 400'000;  // a few milliseconds
  std::vector<double> done(static_cast<size_t>(threads));
  const double seconds =
      best_seconds(team, threads, [&](int thread) { done[static_cast<size_t>(thread)] = probe(kRepeats); });
  double total = 0;
  for (const double ops : done) total += ops;
  return total / seconds / 1e9;
}

std::span<const float> share(std::span<const float> data, int thread, int threads) {
  const auto n = static_cast<int64_t>(data.size());
  const auto first = static_cast<size_t>(share_begin(n, thread, threads));
  return data.subspan(first, static_cast<size_t>(share_begin(n, thread + 1, threads)) - first);
}

}  // namespace

void fill(Team& team, std::span<float> data) {
  team.run([&](int thread, int n) {
    const auto mine = share(data, thread, n);
    std::fill_n(const_cast<float*>(mine.data()), mine.size(), 0.25f);
  });
}

double measure_read_gbps(Team& team, const IsaKernels& isa, std::span<const float> data, int threads) {
  constexpr int64_t kAhead[] = {256, 1024};  // either is the best there is on some machine
  const auto repeats = static_cast<int>(std::max<size_t>(1, (size_t{64} << 20) / data.size_bytes()));
  std::vector<float> sums(static_cast<size_t>(threads));
  double seconds = 1e30;
  for (const int64_t ahead : kAhead) {
    const double best = best_seconds(team, threads, [&](int thread) {
      const auto mine = share(data, thread, threads);
      for (int i = 0; i < repeats; ++i) {
        sums[static_cast<size_t>(thread)] += isa.read_all(mine.data(), static_cast<int64_t>(mine.size()), ahead);
      }
    });
    seconds = std::min(seconds, best);
  }
  return static_cast<double>(data.size_bytes()) * repeats / seconds / 1e9;
}

double measure_gflops(Team& team, const IsaKernels& isa, int threads) { return rate(team, threads, isa.multiply_add); }

double measure_int8_gops(Team& team, const IsaKernels& isa, int threads) {
  return isa.dot_bytes != nullptr ? rate(team, threads, isa.dot_bytes) : 0;
}

double measure_tile_gflops(Team& team, const IsaKernels& isa, int threads) {
  return isa.multiply_tiles != nullptr ? rate(team, threads, isa.multiply_tiles) : 0;
}

std::string measure_table(Team& team, const IsaKernels& isa, std::span<float> data) {
  constexpr size_t kSizes[] = {size_t{256} << 10, size_t{4} << 20, size_t{64} << 20, size_t{256} << 20,
                               size_t{1} << 30};
  fill(team, data);
  std::string text = fmt::format("    {:<8}", "threads");
  for (const size_t bytes : kSizes)
    text += fmt::format("{:>9}", fmt::format("{} MiB", static_cast<double>(bytes) / (1 << 20)));
  text += fmt::format("   GB/s read{:>12}{:>12}{:>14}\n", "f32 GFLOP/s", "int8 GOP/s", "tile GFLOP/s");
  for (int threads = 1; threads <= team.size();
       threads = threads < team.size() ? std::min(2 * threads, team.size()) : threads + 1) {
    text += fmt::format("    {:<8}", threads);
    for (const size_t bytes : kSizes) {
      if (bytes > data.size_bytes()) text += fmt::format("{:>9}", "-");
      else text += fmt::format("{:>9.1f}", measure_read_gbps(team, isa, data.first(bytes / sizeof(float)), threads));
    }
    text += fmt::format("{:>24.0f}{:>12.0f}{:>14.0f}\n", measure_gflops(team, isa, threads),
                        measure_int8_gops(team, isa, threads), measure_tile_gflops(team, isa, threads));
  }
  return text;
}

}  // namespace weft::cpu
