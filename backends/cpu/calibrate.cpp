#include "backends/cpu/calibrate.h"

#include <chrono>
#include <memory>
#include <vector>

#include "backends/cpu/steps.h"
#include "ops/quant/f32.h"

namespace weft::cpu {
namespace {

/// Shortest of a few runs: everything else on the machine only ever adds time.
template <typename F>
double best_seconds(int runs, F f) {
  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const auto start = Clock::now();
    f();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

RowBlock f32_rows(const float* data, int64_t k) {
  return {.data = reinterpret_cast<const std::byte*>(data),
          .row_bytes = static_cast<size_t>(k) * sizeof(float),
          .format = Format::f32,
          .block_elems = 1,
          .block_bytes = sizeof(float),
          .decode = quant::f32.decode};
}

}  // namespace

double measure_read_gbps(Team& team, const IsaKernels& isa) {
  constexpr int64_t kK = 4096, kRows = 4096;  // 64 MiB
  const std::unique_ptr<float[]> w(new float[kK * kRows]);
  const std::vector<float> x(kK, 0.5f);
  std::vector<float> out(kRows);
  const auto over_share = [&](auto f) {
    team.run([&](int thread, int n) { f(share_begin(kRows, thread, n), share_begin(kRows, thread + 1, n)); });
  };
  over_share([&](int64_t first, int64_t last) { std::fill(w.get() + first * kK, w.get() + last * kK, 0.25f); });
  const double seconds = best_seconds(4, [&] {
    over_share([&](int64_t first, int64_t last) {
      isa.matmul({.x = x.data(),
                  .x_stride = kK,
                  .n_tokens = 1,
                  .k = kK,
                  .w = f32_rows(w.get() + first * kK, kK),
                  .n_rows = last - first,
                  .out = out.data() + first,
                  .out_stride = kRows,
                  .scratch = nullptr});  // one token needs none
    });
  });
  return static_cast<double>(kK * kRows) * sizeof(float) / seconds / 1e9;
}

double measure_gflops(Team& team, const IsaKernels& isa) {
  constexpr int64_t kK = kChunk, kN = kTileRows, kT = kTokenTile, kRepeats = 32;
  const std::vector<float> x(kT * kK, 0.5f), w(kN * kK, 0.25f);
  struct Own {
    std::vector<float> out = std::vector<float>(kT * kN);
    std::vector<float> scratch = std::vector<float>(kMatmulScratch / sizeof(float));
  };
  std::vector<Own> own(static_cast<size_t>(team.size()));
  int granted = 1;
  const double seconds = best_seconds(5, [&] {
    team.run([&](int thread, int n) {
      if (thread == 0) granted = n;
      Own& mine = own[static_cast<size_t>(thread)];
      for (int64_t i = 0; i < kRepeats; ++i) {
        isa.matmul({.x = x.data(),
                    .x_stride = kK,
                    .n_tokens = kT,
                    .k = kK,
                    .w = f32_rows(w.data(), kK),
                    .n_rows = kN,
                    .out = mine.out.data(),
                    .out_stride = kN,
                    .scratch = reinterpret_cast<std::byte*>(mine.scratch.data())});
      }
    });
  });
  return 2.0 * kT * kK * kN * kRepeats * granted / seconds / 1e9;
}

}  // namespace weft::cpu
