// linear and vector_matmul: tasks are units of weight rows, one phase. Bound by the weight's bytes at one token, by FMA
// from about 16 on.
#include "ops/linear.h"

#include "backends/cpu/kernels.h"
#include "backends/cpu/matmul.h"
#include "backends/cpu/steps.h"
#include "ops/vector_matmul.h"

namespace weft::cpu {
namespace {

void prepare(const IsaKernels& isa, std::span<const Tensor> bias_list, const Call& call, Steps& steps) {
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, 0);
  cpu.scratch(kMatmulScratch);
  const Weights weights(call.inputs(Linear::kWeight));
  const Bias bias(bias_list);
  const Tensor x = call.input(Linear::kX), y = call.out[0];
  const int64_t k = weights.k(), n = weights.rows();
  cpu.phase(weights.units(), [=, &isa, live = call.live](int64_t first, int64_t last, const Worker& worker) {
    for_tiles(first, last, n, live_count(y.type, live), [&](int64_t t, int64_t n_tokens, int64_t begin, int64_t end) {
      float* out = y.as<float>() + t * n + begin;
      weights.multiply(isa, begin, end, x.as<float>() + t * k, k, n_tokens, out, n, worker.scratch);
      bias.add(isa, begin, end, n_tokens, out, n);
    });
  });
}

static_assert(int{Linear::kX} == int{VectorMatmul::kX} && int{Linear::kWeight} == int{VectorMatmul::kWeight});

}  // namespace

Kernel linear(const IsaKernels& isa) {
  return {.name = fmt::format("linear.{}", isa.name),
          .covers = {Linear::name},
          .arithmetic = Arithmetic::f32,
          .refuses = [](const Match& match, const DeviceInfo&) { return refuses_weights(match, Linear::kWeight); },
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = [&isa](const Call& call, Steps& steps) { prepare(isa, call.inputs(Linear::kBias), call, steps); }};
}

Kernel vector_matmul(const IsaKernels& isa) {
  return {
      .name = fmt::format("vector_matmul.{}", isa.name),
      .covers = {VectorMatmul::name},
      .arithmetic = Arithmetic::f32,
      .refuses = [](const Match& match, const DeviceInfo&) { return refuses_weights(match, VectorMatmul::kWeight); },
      .layout = nullptr,
      .workspace = nullptr,
      .prepare = [&isa](const Call& call, Steps& steps) { prepare(isa, {}, call, steps); }};
}

}  // namespace weft::cpu
