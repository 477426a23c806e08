// qkv_gemm: tasks are units of weight rows. Few tokens: each thread normalizes into its scratch, no barrier. Many:
// tokens are normalized by all, then multiplied. Bound by the weight's bytes at one token, by FMA from about 16 on.
#include "ops/qkv_gemm.h"

#include <cstring>

#include "backends/cpu/kernels.h"
#include "backends/cpu/matmul.h"
#include "backends/cpu/norm.h"
#include "backends/cpu/steps.h"

namespace weft::cpu {
namespace {

size_t workspace(const Match& match) {
  const TensorType x = match.type(QkvGemm::kX);
  return x.shape[0] > kRecomputeTokens && !match.wants(1) ? x.bytes() : 0;
}

void prepare(const IsaKernels& isa, const Call& call, Steps& steps) {
  const auto& op = call.match.op<QkvGemm>();
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, workspace(call.match));

  const Tensor x = call.input(QkvGemm::kX), qkv = call.out[0];
  const Weights weights(call.inputs(QkvGemm::kWeight));
  const Bias bias(call.inputs(QkvGemm::kBias));
  const int64_t d = weights.k(), n = weights.rows(), capacity = x.dim(0);
  const Norm norm{
      &isa, op.norm, op.eps, call.input(QkvGemm::kGamma).as<float>(), call.input(QkvGemm::kBeta).as<float>(), d};
  const auto tokens = [type = qkv.type, live = call.live] { return live_count(type, live); };
  float* const norm_out = call.out[1].as<float>();

  const auto project = [=, &isa](int64_t first, int64_t last, const float* h, const Worker& worker) {
    for_tiles(first, last, n, tokens(), [&](int64_t t, int64_t n_tokens, int64_t begin, int64_t end) {
      float* out = qkv.as<float>() + t * n + begin;
      weights.multiply(isa, begin, end, h + t * d, d, n_tokens, out, n, worker.scratch);
      bias.add(isa, begin, end, n_tokens, out, n);
    });
  };
  if (capacity <= kRecomputeTokens) {
    cpu.scratch(kMatmulScratch + static_cast<size_t>(capacity * d) * sizeof(float));
    cpu.phase(weights.units(), [=](int64_t first, int64_t last, const Worker& worker) {
      float* h = reinterpret_cast<float*>(worker.scratch + kMatmulScratch);
      const int64_t live = tokens();
      for (int64_t t = 0; t < live; ++t) norm(x.as<float>() + t * d, h + t * d);
      if (first == 0 && norm_out) std::memcpy(norm_out, h, static_cast<size_t>(live * d) * sizeof(float));
      project(first, last, h, worker);
    });
  } else {
    cpu.scratch(kMatmulScratch);
    float* h = norm_out ? norm_out : reinterpret_cast<float*>(call.workspace);
    cpu.phase(tokens, [=](int64_t first, int64_t last, const Worker&) {
      for (int64_t t = first; t < last; ++t) norm(x.as<float>() + t * d, h + t * d);
    });
    cpu.phase(weights.units(),
              [=](int64_t first, int64_t last, const Worker& worker) { project(first, last, h, worker); });
  }
}

}  // namespace

Kernel qkv_gemm(const IsaKernels& isa) {
  return {.name = fmt::format("qkv_gemm.{}", isa.name),
          .covers = {QkvGemm::name},
          .arithmetic = Arithmetic::f32,
          .refuses = [](const Match& match, const DeviceInfo&) { return refuses_weights(match, QkvGemm::kWeight); },
          .layout = nullptr,
          .workspace = workspace,
          .prepare = [&isa](const Call& call, Steps& steps) { prepare(isa, call, steps); }};
}

}  // namespace weft::cpu
