// gelu_gemm: two phases, tasks are units of rows of each weight; bias, activation and gate while a tile is in cache.
// Bound
// by the weights' bytes at one token, by arithmetic from about 16 on.
#include "ops/gelu_gemm.h"

#include "backends/cpu/kernels.h"
#include "backends/cpu/mlp.h"

namespace weft::cpu {
namespace {

size_t workspace(const Match& match, Products products) {
  return Mlp::workspace_bytes(match, GeluGemm::kWeight, GeluGemm::kWeightOut, products);
}

void prepare(const IsaKernels& isa, Products products, const Call& call, Steps& steps) {
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, workspace(call.match, products));
  const Mlp mlp(isa, call.match.op<GeluGemm>().activation, call, GeluGemm::kWeight, GeluGemm::kBias,
                GeluGemm::kWeightOut, products, call.workspace);
  cpu.scratch(mlp.scratch_bytes());
  const auto tokens = [type = call.out[0].type, live = call.live] { return live_count(type, live); };
  const float* x = call.input(GeluGemm::kX).as<float>();
  float* const out = call.out[0].as<float>();
  if (mlp.quantizer().shared()) {
    cpu.phase(tokens,
              [=](int64_t first, int64_t last, const Worker&) { mlp.quantizer().rows(x, mlp.d_model(), first, last); });
  }
  const auto expand = [=](int64_t first, int64_t last, const Worker& worker) {
    mlp.expand(first, last, tokens(), x, worker);
  };
  const int64_t grain = unit_grain(call.input(GeluGemm::kX).dim(0), products);
  cpu.phase(mlp.interm_units(), expand, After::previous, grain);
  if (mlp.quantizes_interm()) {
    cpu.phase(tokens, [=](int64_t first, int64_t last, const Worker&) { mlp.quantize_interm(first, last); });
  }
  const auto contract = [=](int64_t first, int64_t last, const Worker& worker) {
    mlp.contract(first, last, tokens(), out, worker, [](int64_t, int64_t, int64_t, int64_t) {});
  };
  cpu.phase(mlp.out_units(), contract, After::previous, grain);
}

}  // namespace

Kernel gelu_gemm(const IsaKernels& isa, Products products) {
  return {.name = kernel_name(GeluGemm::name, isa, products),
          .covers = {GeluGemm::name},
          .arithmetic = arithmetic_of(products),
          .refuses =
              [&isa, products](const Match& match, const DeviceInfo&) {
                return refuses_weights(isa, match, {GeluGemm::kWeight, GeluGemm::kWeightOut}, products);
              },
          .layout = layout_of(products),
          .workspace = [products](const Match& match) { return workspace(match, products); },
          .prepare = [&isa, products](const Call& call, Steps& steps) { prepare(isa, products, call, steps); }};
}

}  // namespace weft::cpu
