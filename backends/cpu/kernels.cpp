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

std::vector<Kernel> list_kernels(const IsaKernels& isa, bool deterministic) {
  std::vector<Kernel> kernels;
  for (const Products products : {Products::bf16, Products::int8, Products::f32}) {
    if (products == Products::bf16 && (isa.matmul_tiles == nullptr || deterministic)) continue;
    if (products == Products::int8 && isa.matmul_packed == nullptr) continue;
    for (const auto make : {qkv_gemm, vector_matmul, linear, mlp_gemm_residual_add, mlp_gemm, gelu_gemm, moe_experts}) {
      kernels.push_back(make(isa, products));
    }
  }
  if (isa.matmul_tiles != nullptr && !deterministic) kernels.push_back(softmax_context(isa, Products::bf16));
  kernels.push_back(softmax_context(isa, Products::f32));
  for (const auto make : {residual_add, layer_norm, rms_norm, moe_route, embedding, candidates}) {
    kernels.push_back(make(isa));
  }
  for (const ref::Primitive& primitive : ref::primitives()) kernels.push_back(shared_out(primitive));
  return kernels;
}

}  // namespace weft::cpu
