#include "backends/cpu/kernels.h"

#include "backends/cpu/steps.h"
#include "backends/ref/primitives.h"

namespace weft::cpu {
namespace {

/// A primitive's plain loops, its rows shared out over the team.
Kernel shared_out(const ref::Primitive& primitive) {
  return {.name = fmt::format("{}.plain", primitive.op),
          .covers = {primitive.op},
          .arithmetic = Arithmetic::f64,
          .refuses = nullptr,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = [&primitive](const Call& call, Steps& steps) {
            auto& cpu = static_cast<CpuSteps&>(steps);
            cpu.begin(call, 0);
            cpu.phase(
                [&primitive, call] { return primitive.rows(call); },
                [&primitive, call](int64_t first, int64_t last, const Worker&) { primitive.run(call, first, last); });
          }};
}

}  // namespace

std::vector<Kernel> list_kernels(const IsaKernels& isa) {
  std::vector<Kernel> kernels = {
      qkv_gemm(isa),         //
      softmax_context(isa),  //
      vector_matmul(isa),    //
      linear(isa),           //
      mlp_gemm_residual_add(isa),
      mlp_gemm(isa),      //
      gelu_gemm(isa),     //
      residual_add(isa),  //
      layer_norm(isa),    //
      rms_norm(isa),      //
      moe_route(isa),     //
      moe_experts(isa),   //
      embedding(isa),     //
  };
  for (const ref::Primitive& primitive : ref::primitives()) kernels.push_back(shared_out(primitive));
  return kernels;
}

}  // namespace weft::cpu
