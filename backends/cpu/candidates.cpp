// candidates. Phase 1, tasks are (row, part of the row): a heap of the part's k largest, its smallest on top, which few
// logits pass. Phase 2, tasks are rows: the best of the parts. Where rows are as many as threads, a row is one part and
// needs no second phase. Bound by reading the logits once.
#include "ops/candidates.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "backends/cpu/kernels.h"
#include "backends/cpu/steps.h"

namespace weft::cpu {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity(), kMost = std::numeric_limits<float>::max();
constexpr int64_t kMostParts = 8, kLeastPart = 4096;  // logits

struct Candidate {
  float value;
  int32_t token;
};
bool before(const Candidate& a, const Candidate& b) {
  return a.value != b.value ? a.value > b.value : a.token < b.token;
}

/// The k best of what is offered.
class Best {
 public:
  Best(Candidate* memory, int64_t k) : heap_(memory), k_(k) {}

  /// What the next must be larger than, where no later one of the same value counts: NaN never is.
  float passed() const { return found_ == k_ ? heap_[0].value : kNone; }
  void offer(Candidate c) {
    if (found_ == k_) std::pop_heap(heap_, heap_ + k_, before);
    else ++found_;
    heap_[found_ - 1] = c;
    std::push_heap(heap_, heap_ + found_, before);
  }
  /// Best first; what was not found is -infinity with token -1.
  void finish() {
    std::sort_heap(heap_, heap_ + found_, before);
    std::fill(heap_ + found_, heap_ + k_, Candidate{kNone, -1});
  }

 private:
  Candidate* heap_;
  int64_t k_, found_ = 0;
};

/// Logits [first, last) of a row.
void find(const IsaKernels& isa, const float* logits, int64_t first, int64_t last, Candidate* memory, int64_t k) {
  Best best(memory, k);
  for (int64_t i = first; (i += isa.first_above(logits + i, last - i, best.passed())) < last; ++i) {
    const float value = std::min(logits[i], kMost);
    if (value > best.passed()) best.offer({value, static_cast<int32_t>(i)});
  }
  best.finish();
}

size_t workspace_bytes(const Match& match) {
  return static_cast<size_t>(match.type(Candidates::kLogits).shape[0] * kMostParts * match.op<Candidates>().k) *
         sizeof(Candidate);
}

void prepare(const IsaKernels& isa, const Call& call, Steps& steps) {
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, workspace_bytes(call.match));
  const Tensor logits = call.input(Candidates::kLogits), values = call.out[0], tokens = call.out[1];
  const int64_t k = call.match.op<Candidates>().k, n = logits.dim(1), threads = cpu.team().size();
  const int64_t parts =
      logits.dim(0) >= threads ? 1 : std::clamp<int64_t>(n / kLeastPart, 1, std::min(threads, kMostParts));
  auto* const found = reinterpret_cast<Candidate*>(call.workspace);  // [L, parts, k]
  const auto rows = [type = logits.type, live = call.live] { return live_count(type, live); };
  const auto put = [=](int64_t row, const Candidate* best) {
    for (int64_t j = 0; j < k; ++j) {
      if (values) values.as<float>()[row * k + j] = best[j].value;
      if (tokens) tokens.as<int32_t>()[row * k + j] = best[j].token;
    }
  };

  cpu.phase([=] { return rows() * parts; },
            [=, &isa](int64_t first, int64_t last, const Worker&) {
              for (int64_t i = first; i < last; ++i) {
                const int64_t row = i / parts, part = i % parts;
                find(isa, logits.as<float>() + row * n, share_begin(n, part, parts), share_begin(n, part + 1, parts),
                     found + i * k, k);
                if (parts == 1) put(row, found + i * k);
              }
            });
  if (parts == 1) return;
  cpu.scratch(static_cast<size_t>(k) * sizeof(Candidate));
  cpu.phase(rows, [=](int64_t first, int64_t last, const Worker& worker) {
    for (int64_t row = first; row < last; ++row) {
      auto* const memory = reinterpret_cast<Candidate*>(worker.scratch);
      Best best(memory, k);
      for (const Candidate& c : std::span(found + row * parts * k, static_cast<size_t>(parts * k))) {
        if (c.value > best.passed()) best.offer(c);  // parts ascend, and so do equal values' tokens
      }
      best.finish();
      put(row, memory);
    }
  });
}

}  // namespace

Kernel candidates(const IsaKernels& isa) {
  return {.name = fmt::format("candidates.{}", isa.name),
          .covers = {Candidates::name},
          .arithmetic = Arithmetic::f32,
          .refuses = nullptr,
          .layout = nullptr,
          .workspace = workspace_bytes,
          .prepare = [&isa](const Call& call, Steps& steps) { prepare(isa, call, steps); }};
}

}  // namespace weft::cpu
