// gelu_gemm: two phases, tasks are units of rows of each weight; bias, activation and gate while a tile is in cache.
// Bound by the weights' bytes at one token, by FMA from about 16 on.
#include "ops/gelu_gemm.h"

#include "backends/cpu/kernels.h"
#include "backends/cpu/mlp.h"

namespace weft::cpu {
namespace {

size_t workspace(const Match& match) { return interm_bytes(match, GeluGemm::kWeightOut); }

void prepare(const IsaKernels& isa, const Call& call, Steps& steps) {
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, workspace(call.match));
  const Mlp mlp(isa, call.match.op<GeluGemm>().activation, call, GeluGemm::kWeight, GeluGemm::kBias,
                GeluGemm::kWeightOut);
  cpu.scratch(Mlp::scratch_bytes(mlp.d_ff()));
  const auto tokens = [type = call.out[0].type, live = call.live] { return live_count(type, live); };
  const float* x = call.input(GeluGemm::kX).as<float>();
  float *interm = reinterpret_cast<float*>(call.workspace), *out = call.out[0].as<float>();
  cpu.phase(mlp.interm_units(), [=](int64_t first, int64_t last, const Worker& worker) {
    mlp.expand(first, last, tokens(), x, interm, worker.scratch);
  });
  cpu.phase(mlp.out_units(), [=](int64_t first, int64_t last, const Worker& worker) {
    mlp.contract(first, last, tokens(), interm, out, worker.scratch, [](int64_t, int64_t, int64_t, int64_t) {});
  });
}

}  // namespace

Kernel gelu_gemm(const IsaKernels& isa) {
  return {.name = fmt::format("gelu_gemm.{}", isa.name),
          .covers = {GeluGemm::name},
          .arithmetic = Arithmetic::f32,
          .refuses =
              [](const Match& match, const DeviceInfo&) {
                const auto reason = refuses_weights(match, GeluGemm::kWeight);
                return reason ? reason : refuses_weights(match, GeluGemm::kWeightOut);
              },
          .layout = nullptr,
          .workspace = workspace,
          .prepare = [&isa](const Call& call, Steps& steps) { prepare(isa, call, steps); }};
}

}  // namespace weft::cpu
