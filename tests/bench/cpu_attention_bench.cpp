// softmax_context: GB/s of keys and values at one token, GFLOP/s at 512, by cache format and depth. Sixteen caches are
// read in turn, as the layers of a model do, so that none stays in a cache of the processor.
//   bin/weft_bench_cpu --benchmark_filter='attention/f16/1/8192'
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <deque>

#include "backends/cpu/cpu.h"
#include "backends/cpu/steps.h"
#include "ops/quant/all.h"
#include "tests/backends/attention_steps.h"

namespace weft::testing {
namespace {

constexpr int kLayers = 16;

const Kernel& kernel_of(const Backend& backend) {
  for (const Kernel& kernel : backend.kernels()) {
    if (kernel.name.starts_with("softmax_context.")) return kernel;
  }
  fail("no kernel of softmax_context");
}

void attention(benchmark::State& state, DType cache, int tokens, int depth) {
  Variant v{"", heads(32, 8, 64)};
  v.op.rotary = Rotary::half;
  v.op.rotary_dim = 64;
  OpGraph g;
  const NodeId id = make_step(g, v, {.past = {depth}, .fed = {tokens}, .capacity = tokens, .page = 64}, cache);
  const Node& node = g.graph.node(id);

  const char* isa = std::getenv("WEFT_CPU_ISA");
  const auto backend = make_cpu_backend({.isa = isa ? isa : ""});
  const Kernel& kernel = kernel_of(*backend);
  std::deque<Buffer> memory;
  const auto copy = [&](const TensorType& type, const std::byte* from) {
    const Tensor to{type, memory.emplace_back(backend->allocate(0, type.bytes())).data(), nullptr};
    if (from) std::copy_n(from, type.bytes(), to.data);
    return to;
  };
  auto steps = backend->begin(0);
  const int32_t live[2] = {g.live.tokens, g.live.logits};
  size_t read = 0;
  for (int layer = 0; layer < kLayers; ++layer) {
    Call call;
    call.match = {.graph = &g.graph, .nodes = {id}, .uses = {1, 1, 1}};
    call.in.push_back(node.in.map([&](const Value& value) {
      const Node& from = g.graph.node(value.node);
      const auto* kept = from.as<StateOp>();
      if (kept) read += value.type().bytes();
      return copy(value.type(),
                  kept ? g.states.at(kept->label).bytes.data() : g.feeds.at(from.as<InputOp>()->label).data());
    }));
    call.out = {copy(node.out[0], nullptr), call.input(SoftmaxContext::kKCache), call.input(SoftmaxContext::kVCache)};
    call.workspace = memory.emplace_back(backend->allocate(0, kernel.workspace(call.match))).data();
    call.live = live;
    kernel.prepare(call, *steps);
  }
  const auto segment = backend->finish(std::move(steps));
  for (auto _ : state) segment->launch();

  const auto rate = [&](double amount) {
    return benchmark::Counter(static_cast<double>(state.iterations()) * amount / 1e9, benchmark::Counter::kIsRate);
  };
  const double pairs = static_cast<double>(tokens) * depth + 0.5 * tokens * (tokens + 1);
  state.counters["GB/s"] = rate(static_cast<double>(read));
  state.counters["GFLOP/s"] = rate(kLayers * 4 * pairs * v.op.n_head * v.op.d_head);
}

const int registered = [] {
  for (const DType cache : {DType(quant::f16), DType(quant::bf16), DType(quant::q8_0)}) {
    for (const auto& [fed, past] : {std::pair{1, 2048}, {1, 8192}, {512, 0}, {512, 8192}}) {
      const int tokens = fed, depth = past;  // clang 14 captures no bindings
      benchmark::RegisterBenchmark(fmt::format("attention/{}/{}/{}", cache.name(), tokens, depth).c_str(),
                                   [=](benchmark::State& state) { attention(state, cache, tokens, depth); })
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace weft::testing
