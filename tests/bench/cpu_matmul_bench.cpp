// The matrix product by format and number of tokens: GB/s of weights at one token, GFLOP/s at many. Weights are 256
// MiB, beyond what a guest's share of L3 holds for long. WEFT_CPU_ISA picks the instruction set.
//   bin/weft_bench_cpu --benchmark_filter='q4_0/1$'
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <random>

#include "backends/cpu/calibrate.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/matmul.h"
#include "backends/cpu/steps.h"
#include "ops/quant/all.h"
#include "ops/quant/rows16.h"

namespace weft::cpu {
namespace {

const IsaKernels& isa() {
  static const IsaKernels& chosen = []() -> const IsaKernels& {  // once: asking the processor is slow in a guest
    const char* name = std::getenv("WEFT_CPU_ISA");
    return choose_isa(name ? name : "");
  }();
  return chosen;
}

void matmul(benchmark::State& state, DType dtype, int64_t tokens) {
  constexpr int64_t kK = 4096;
  const size_t row_bytes = TensorType{dtype, {1, kK}, Rows::all}.row_bytes();
  const size_t bytes = tokens == 1 ? size_t{256} << 20 : size_t{32} << 20;
  const int64_t n = static_cast<int64_t>(bytes / row_bytes) / kTileRows * kTileRows;
  const TensorType type{dtype, {n, kK}, Rows::all};
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> row(static_cast<size_t>(kK));
  for (float& value : row) value = normal(generator);
  std::vector<std::byte> encoded(row_bytes);
  dtype->encode(row.data(), encoded.data(), row.size(), nullptr);
  const std::unique_ptr<std::byte[]> data(new std::byte[type.bytes()]);
  for (int64_t r = 0; r < n; ++r)
    std::copy_n(encoded.data(), row_bytes, data.get() + static_cast<size_t>(r) * row_bytes);

  Team team(0);
  CpuSteps steps(team);
  const Tensor blocks[] = {{type, data.get(), nullptr}};
  const Weights weights(blocks);
  std::vector<float> out(static_cast<size_t>(tokens * n));
  const size_t x_bytes = static_cast<size_t>(tokens * kK) * sizeof(float);
  const std::unique_ptr<float, decltype(&std::free)> x(static_cast<float*>(std::aligned_alloc(64, x_bytes)), std::free);
  std::fill_n(x.get(), tokens * kK, 0.5f);
  steps.scratch(kMatmulScratch);
  steps.phase(weights.units(), [&](int64_t first, int64_t last, const Worker& worker) {
    for_tiles(Products::f32, first, last, n, tokens, [&](int64_t t, int64_t n_tokens, int64_t begin, int64_t end) {
      weights.multiply(isa(), begin, end, {x.get() + t * kK, kK}, n_tokens, out.data() + t * n + begin, n,
                       worker.scratch);
    });
  });
  CpuSegment segment(std::move(steps));
  for (auto _ : state) segment.launch();
  const auto runs = static_cast<double>(state.iterations());
  state.counters["GB/s"] =
      benchmark::Counter(runs * static_cast<double>(type.bytes()) / 1e9, benchmark::Counter::kIsRate);
  state.counters["GFLOP/s"] =
      benchmark::Counter(runs * 2 * static_cast<double>(tokens * n * kK) / 1e9, benchmark::Counter::kIsRate);
}

/// The 8-bit product of a packed weight on one thread, against its own processor time: figures hold on a busy machine.
void packed(benchmark::State& state, DType dtype, int64_t tokens) {
  constexpr int64_t kK = 4096;
  const size_t bytes = tokens == 1 ? size_t{256} << 20 : size_t{8} << 20;
  const size_t row_bytes = TensorType{dtype, {1, kK}, Rows::all}.row_bytes();
  const int64_t n = static_cast<int64_t>(bytes / row_bytes) / kTileRows * kTileRows;
  const TensorType type{dtype, {n, kK}, Rows::all};
  const std::unique_ptr<std::byte[]> data(new std::byte[type.bytes()]);
  std::fill_n(data.get(), type.bytes(), std::byte{0x11});
  const std::vector<float> x(static_cast<size_t>(tokens * kK), 0.5f);
  std::vector<QuantizedBlock> quantized(static_cast<size_t>(tokens * kK / kQuantizedElems));
  isa().quantize(x.data(), tokens * kK, quantized.data());
  std::vector<float> out(static_cast<size_t>(tokens * n));
  const Tensor blocks[] = {{type, data.get(), quant::rows16(type)}};
  const Weights weights(blocks);
  for (auto _ : state) {
    for_tiles(Products::int8, 0, weights.units(), n, tokens,
              [&](int64_t t, int64_t n_tokens, int64_t begin, int64_t end) {
                weights.multiply(isa(), begin, end, Activations{x.data(), kK, quantized.data()}.from(t, kK), n_tokens,
                                 out.data() + t * n + begin, n, nullptr);
              });
  }
  const auto runs = static_cast<double>(state.iterations());
  state.counters["GB/s"] =
      benchmark::Counter(runs * static_cast<double>(type.bytes()) / 1e9, benchmark::Counter::kIsRate);
  state.counters["GOP/s"] =
      benchmark::Counter(runs * 2 * static_cast<double>(tokens * n * kK) / 1e9, benchmark::Counter::kIsRate);
}

/// What the machine gives now: the limits that the lines below are a share of.
void limits(benchmark::State& state) {
  Team team(0);
  std::vector<float> data(size_t{64} << 20);
  fill(team, data);
  double gbps = 0, gflops = 0, gops = 0;
  for (auto _ : state) {
    gbps = measure_read_gbps(team, isa(), data, team.size());
    gflops = measure_gflops(team, isa(), team.size());
    gops = measure_int8_gops(team, isa(), team.size());
  }
  state.counters["GB/s"] = gbps;
  state.counters["GFLOP/s"] = gflops;
  state.counters["GOP/s"] = gops;
}

void launch(benchmark::State& state) {
  Team team(0);
  CpuSteps steps(team);
  const auto nothing = [](int64_t, int64_t, const Worker&) {};
  steps.phase(team.size(), nothing);
  for (int64_t i = 0; i < state.range(0); ++i) steps.phase(team.size(), nothing);
  CpuSegment segment(std::move(steps));
  for (auto _ : state) segment.launch();
}
BENCHMARK(launch)->Name("launch/barriers")->Arg(0)->Arg(1000)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(limits)->Iterations(1)->UseRealTime();

}  // namespace
}  // namespace weft::cpu

int main(int argc, char** argv) {
  using namespace weft;
  for (const TypeTraits* type : quant::kAllTypes) {
    if (!type->encode) continue;
    for (const int64_t tokens : {1, 2, 4, 8, 32, 128, 512}) {
      benchmark::RegisterBenchmark(fmt::format("matmul/{}/{}", type->name, tokens).c_str(),
                                   [=](benchmark::State& state) { cpu::matmul(state, *type, tokens); })
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
  for (const TypeTraits* type : quant::kAllTypes) {
    if (cpu::isa().quantize == nullptr || quant::rows16({*type, {16, 256}, Rows::all}) == nullptr) continue;
    for (const int64_t tokens : {1, 2, 4, 8, 16, 128}) {
      benchmark::RegisterBenchmark(fmt::format("packed/{}/{}", type->name, tokens).c_str(),
                                   [=](benchmark::State& state) { cpu::packed(state, *type, tokens); })
          ->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
