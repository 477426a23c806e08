// linear and vector_matmul: tasks are units of weight rows, one phase; before it, at many tokens and with packed
// weights, one that quantizes the activations. Bound by the weight's bytes at one token, by arithmetic from about 16
// on.
#include "ops/linear.h"

#include "backends/cpu/kernels.h"
#include "backends/cpu/matmul.h"
#include "backends/cpu/steps.h"
#include "ops/vector_matmul.h"

namespace weft::cpu {
namespace {

size_t workspace(const Match& match, Products products) {
  const Shape x = match.type(Linear::kX).shape;
  return Quantizer::workspace_bytes(products, x[0], x[1]);
}

void prepare(const IsaKernels& isa, Products products, std::span<const Tensor> bias_list, const Call& call,
             Steps& steps) {
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, workspace(call.match, products));
  const Weights weights(call.inputs(Linear::kWeight));
  const Bias bias(bias_list);
  const Tensor x = call.input(Linear::kX), y = call.out[0];
  const int64_t k = weights.k(), n = weights.rows();
  const Quantizer quantizer(isa, weights, products, x.dim(0), call.workspace);
  const size_t fixed = tiling(products).scratch;
  cpu.scratch(fixed + quantizer.scratch_bytes());
  const auto tokens = [type = y.type, live = call.live] { return live_count(type, live); };
  if (quantizer.shared()) {
    cpu.phase(tokens,
              [=](int64_t first, int64_t last, const Worker&) { quantizer.rows(x.as<float>(), k, first, last); });
  }
  const auto multiply = [=, &isa](int64_t first, int64_t last, const Worker& worker) {
    const int64_t live = tokens();
    const Activations a = quantizer(x.as<float>(), k, live, worker.scratch + fixed, worker.fresh);
    for_tiles(products, first, last, n, live, [&](int64_t t, int64_t n_tokens, int64_t begin, int64_t end) {
      float* out = y.as<float>() + t * n + begin;
      weights.multiply(isa, begin, end, a.from(t, k), n_tokens, out, n, worker.scratch);
      bias.add(isa, begin, end, n_tokens, out, n);
    });
  };
  cpu.phase(weights.units(), multiply, After::previous, unit_grain(x.dim(0), products));
}

static_assert(int{Linear::kX} == int{VectorMatmul::kX} && int{Linear::kWeight} == int{VectorMatmul::kWeight});

/// `has_bias`: linear, else vector_matmul.
Kernel make(std::string_view op, bool has_bias, const IsaKernels& isa, Products products) {
  return {.name = kernel_name(op, isa, products),
          .covers = {op},
          .arithmetic = arithmetic_of(products),
          .refuses = [&isa, products](
                         const Match& match,
                         const DeviceInfo&) { return refuses_weights(isa, match, {Linear::kWeight}, products); },
          .layout = layout_of(products),
          .workspace = [products](const Match& match) { return workspace(match, products); },
          .prepare =
              [&isa, products, has_bias](const Call& call, Steps& steps) {
                prepare(isa, products, has_bias ? call.inputs(Linear::kBias) : std::span<const Tensor>(), call, steps);
              }};
}

}  // namespace

Kernel linear(const IsaKernels& isa, Products products) { return make(Linear::name, true, isa, products); }

Kernel vector_matmul(const IsaKernels& isa, Products products) {
  return make(VectorMatmul::name, false, isa, products);
}

}  // namespace weft::cpu
