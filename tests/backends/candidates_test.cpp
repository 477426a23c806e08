// The largest logits by the kernels of cpu and cuda, equal to their `lower` on ref: rows that are one part and many,
// ties in and across parts, numbers that are none, rows that are not live.
#include "ops/candidates.h"

#include "tests/backends/cuda_fixture.h"

namespace weft::testing {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

struct Ask {
  int64_t rows, n, k;
};
constexpr Ask kAsks[] = {{1, 1, 1},        {1, 61, 1},       {3, 4096, 1},   {2, 50257, 1},
                         {2, 128256, 1},   {1, 61, 61},      {2, 2048, 64},  {3, 50257, 40},
                         {1, 50257, 64},   {2, 128256, 128}, {1, 5000, 1},   {1, 4097, 2},
                         {1, 262144, 128}, {33, 8193, 1},    {1, 262147, 1}, {5, 131073, 1}};

NodeId add(OpGraph& g, const Ask& s, const std::vector<float>& logits) {
  g.live.logits = static_cast<int32_t>(s.rows - s.rows / 3);
  return candidates(g.f32({s.rows, s.n}, logits, Rows::logits), s.k).first.node;
}

/// Few different numbers, so that many are equal; a tenth infinite or none.
std::vector<float> logits_of(OpGraph& g, const Ask& s, bool rough) {
  std::vector<float> logits = g.random_values(s.rows * s.n);
  if (!rough) return logits;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float x = std::round(logits[i] * 2);
    logits[i] = i % 31 == 0 ? kNan : i % 37 == 0 ? -kInf : x == 0 ? std::copysign(0.0f, logits[i]) : x > 4 ? kInf : x;
  }
  return logits;
}

template <typename Run>
void check(const char* name, Run run) {
  for (const Ask& s : kAsks) {
    for (const bool rough : {false, true}) {
      OpGraph g;
      const NodeId id = add(g, s, logits_of(g, s, rough));
      const Ports got = run(g, id);
      ASSERT_EQ(got.size(), 2u);
      for (uint8_t port = 0; port < 2; ++port) g.graph.output(fmt::format("o{}", port), {&g.graph, id, port});
      States states = g.states;
      const Outputs expected = evaluate(g.graph, g.feeds, states, g.live);
      for (size_t port = 0; port < 2; ++port) {
        EXPECT_EQ(live_values(got[port], g.live), live_values(expected.at(fmt::format("o{}", port)), g.live))
            << name << ": " << s.k << " of " << s.rows << " x " << s.n << (rough ? ", rough" : "") << ", output "
            << port;
      }
    }
  }
}

TEST(CpuCandidates, AreThoseOfTheDefinition) {
  for (const cpu::IsaKernels* isa : cpu::supported_isas()) {
    for (const int threads : {1, 2, 3}) {
      const auto backend = make_cpu_backend({.threads = threads, .isa = isa->name});
      const Kernel* kernel = find_kernel(*backend, fmt::format("candidates.{}", isa->name));
      ASSERT_NE(kernel, nullptr);
      check(isa->name, [&](const OpGraph& g, NodeId id) {
        return CpuRun{.backend = backend.get(), .kernel = kernel, .chain = {id}, .wanted = {}}.run(g);
      });
    }
  }
}

TEST(CudaCandidates, AreThoseOfTheDefinition) {
  const auto backend = load_cuda_backend();
  if (backend->devices().empty()) GTEST_SKIP() << backend->absent();
  const Kernel* kernel = find_kernel(*backend, "candidates.f32");
  ASSERT_NE(kernel, nullptr);
  check("cuda", [&](const OpGraph& g, NodeId id) { return run_on_device(g, id, *backend, *kernel); });
}

}  // namespace
}  // namespace weft::testing
