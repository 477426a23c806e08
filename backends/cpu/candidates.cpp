// candidates: tasks are rows, one phase: a heap of the k largest, its smallest on top, which few logits pass. Bound by
// reading the logits once.
#include "ops/candidates.h"

#include <algorithm>

#include "backends/cpu/kernels.h"
#include "backends/cpu/steps.h"

namespace weft::cpu {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity(), kMost = std::numeric_limits<float>::max();
constexpr int64_t kRun = 64;  // logits that are looked at together

struct Candidate {
  float value;
  int32_t token;
};
bool before(const Candidate& a, const Candidate& b) {
  return a.value != b.value ? a.value > b.value : a.token < b.token;
}

/// Fills `best`, of k, best first; returns how many were above -infinity.
int64_t find(const float* logits, int64_t n, Candidate* best, int64_t k) {
  int64_t found = 0;
  float passed = kNone;  // what the next must be larger than; NaN never is
  for (int64_t at = 0; at < n; at += kRun) {
    const int64_t end = std::min(n, at + kRun);
    int some = 0;
    for (int64_t i = at; i < end; ++i) some |= static_cast<int>(logits[i] > passed);
    if (some == 0) continue;
    for (int64_t i = at; i < end; ++i) {
      const float value = std::min(logits[i], kMost);
      if (!(value > passed)) continue;
      if (found == k) std::pop_heap(best, best + k, before);
      else ++found;
      best[found - 1] = {value, static_cast<int32_t>(i)};
      std::push_heap(best, best + found, before);
      if (found == k) passed = best[0].value;
    }
  }
  std::sort_heap(best, best + found, before);
  return found;
}

void prepare(const Call& call, Steps& steps) {
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, 0);
  const Tensor logits = call.input(Candidates::kLogits), values = call.out[0], tokens = call.out[1];
  const int64_t k = call.match.op<Candidates>().k, n = logits.dim(1);
  cpu.scratch(static_cast<size_t>(k) * sizeof(Candidate));
  cpu.phase([type = logits.type, live = call.live] { return live_count(type, live); },
            [=](int64_t first, int64_t last, const Worker& worker) {
              auto* best = reinterpret_cast<Candidate*>(worker.scratch);
              for (int64_t row = first; row < last; ++row) {
                const int64_t found = find(logits.as<float>() + row * n, n, best, k);
                std::fill(best + found, best + k, Candidate{kNone, -1});
                for (int64_t j = 0; j < k; ++j) {
                  if (values) values.as<float>()[row * k + j] = best[j].value;
                  if (tokens) tokens.as<int32_t>()[row * k + j] = best[j].token;
                }
              }
            });
}

}  // namespace

Kernel candidates() {
  return {.name = "candidates.plain",
          .covers = {Candidates::name},
          .arithmetic = Arithmetic::f32,
          .refuses = nullptr,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = prepare};
}

}  // namespace weft::cpu
