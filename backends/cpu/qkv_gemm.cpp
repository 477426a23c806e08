// qkv_gemm: tasks are units of weight rows. Few tokens: each thread normalizes into its scratch, no barrier. Many:
// tokens are normalized by all, then multiplied. With packed weights what is normalized is quantized too, once for q, k
// and v. Bound by the weight's bytes at one token, by arithmetic from about 16 on.
#include "ops/qkv_gemm.h"

#include <cstring>

#include "backends/cpu/kernels.h"
#include "backends/cpu/matmul.h"
#include "backends/cpu/norm.h"
#include "backends/cpu/steps.h"

namespace weft::cpu {
namespace {

size_t norm_bytes(const Match& match) {
  const TensorType x = match.type(QkvGemm::kX);
  return x.shape[0] > kRecomputeTokens && !match.wants(1) ? x.bytes() : 0;
}

size_t workspace(const Match& match, Products products) {
  const Shape x = match.type(QkvGemm::kX).shape;
  return norm_bytes(match) + Quantizer::workspace_bytes(products, x[0], x[1]);
}

void prepare(const IsaKernels& isa, Products products, const Call& call, Steps& steps) {
  const auto& op = call.match.op<QkvGemm>();
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, workspace(call.match, products));

  const Tensor x = call.input(QkvGemm::kX), qkv = call.out[0];
  const Weights weights(call.inputs(QkvGemm::kWeight));
  const Bias bias(call.inputs(QkvGemm::kBias));
  const int64_t d = weights.k(), n = weights.rows(), capacity = x.dim(0);
  const Norm norm{
      &isa, op.norm, op.eps, call.input(QkvGemm::kGamma).as<float>(), call.input(QkvGemm::kBeta).as<float>(), d};
  const size_t fixed = tiling(products).scratch;
  const Quantizer quantizer(isa, weights, products, capacity, call.workspace + norm_bytes(call.match));
  const auto tokens = [type = qkv.type, live = call.live] { return live_count(type, live); };
  float* const norm_out = call.out[1].as<float>();

  const auto project = [=, &isa](int64_t first, int64_t last, const Activations& h, const Worker& worker) {
    for_tiles(products, first, last, n, tokens(), [&](int64_t t, int64_t n_tokens, int64_t begin, int64_t end) {
      float* out = qkv.as<float>() + t * n + begin;
      weights.multiply(isa, begin, end, h.from(t, d), n_tokens, out, n, worker.scratch);
      bias.add(isa, begin, end, n_tokens, out, n);
    });
  };
  if (capacity <= kRecomputeTokens) {
    cpu.scratch(fixed + quantizer.scratch_bytes() + static_cast<size_t>(capacity * d) * sizeof(float));
    const auto work = [=](int64_t first, int64_t last, const Worker& worker) {
      std::byte* const quantized = worker.scratch + fixed;
      float* h = reinterpret_cast<float*>(quantized + quantizer.scratch_bytes());
      const int64_t live = tokens();
      for (int64_t t = 0; worker.fresh && t < live; ++t) norm(x.as<float>() + t * d, h + t * d);
      if (first == 0 && norm_out) std::memcpy(norm_out, h, static_cast<size_t>(live * d) * sizeof(float));
      project(first, last, quantizer(h, d, live, quantized, worker.fresh), worker);
    };
    cpu.phase(weights.units(), work, After::previous, unit_grain(capacity, products));
  } else {
    cpu.scratch(fixed);
    float* h = norm_out ? norm_out : reinterpret_cast<float*>(call.workspace);
    cpu.phase(tokens, [=](int64_t first, int64_t last, const Worker&) {
      for (int64_t t = first; t < last; ++t) norm(x.as<float>() + t * d, h + t * d);
      if (quantizer.shared()) quantizer.rows(h, d, first, last);
    });
    const auto work = [=](int64_t first, int64_t last, const Worker& worker) {
      project(first, last, quantizer(h, d, tokens(), nullptr, worker.fresh), worker);
    };
    cpu.phase(weights.units(), work, After::previous, unit_grain(capacity, products));
  }
}

}  // namespace

Kernel qkv_gemm(const IsaKernels& isa, Products products) {
  return {.name = kernel_name(QkvGemm::name, isa, products),
          .covers = {QkvGemm::name},
          .arithmetic = arithmetic_of(products),
          .refuses = [&isa, products](
                         const Match& match,
                         const DeviceInfo&) { return refuses_weights(isa, match, {QkvGemm::kWeight}, products); },
          .layout = layout_of(products),
          .workspace = [products](const Match& match) { return workspace(match, products); },
          .prepare = [&isa, products](const Call& call, Steps& steps) { prepare(isa, products, call, steps); }};
}

}  // namespace weft::cpu
