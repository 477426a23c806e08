// moe_route. Phase 1, tasks are units of router rows: logits to the workspace. Phase 2, tasks are tokens: the k experts
// and their weights. Bound by the router's bytes at one token; a small part of any layer.
#include "ops/moe_route.h"

#include "backends/cpu/kernels.h"
#include "backends/cpu/matmul.h"
#include "backends/cpu/steps.h"

namespace weft::cpu {
namespace {

size_t workspace(const Match& match) {
  int64_t experts = 0;
  for (const TensorType& block : match.types(MoeRoute::kWeight)) experts += block.shape[0];
  return static_cast<size_t>(match.type(MoeRoute::kX).shape[0] * experts) * sizeof(float);
}

void softmax(const IsaKernels& isa, float* s, int64_t n) {
  const float sum = isa.exp_sum(s, isa.max(s, n), n);
  for (int64_t i = 0; i < n; ++i) s[i] /= sum;
}

/// The k largest of `scores` [n], the lower id first on ties; always k different ids, whatever the scores.
void top_k(const float* scores, int64_t n, int64_t k, int32_t* ids, float* values) {
  for (int64_t j = 0; j < k; ++j) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; ++i) {
      const bool taken = std::find(ids, ids + j, static_cast<int32_t>(i)) != ids + j;
      if (!taken && (best < 0 || scores[i] > scores[best])) best = i;
    }
    ids[j] = static_cast<int32_t>(best);
    values[j] = scores[best];
  }
}

void prepare(const IsaKernels& isa, const Call& call, Steps& steps) {
  const auto& op = call.match.op<MoeRoute>();
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, workspace(call.match));
  cpu.scratch(kMatmulScratch);
  const Weights weights(call.inputs(MoeRoute::kWeight));
  const Bias bias(call.inputs(MoeRoute::kBias));
  const float* x = call.input(MoeRoute::kX).as<float>();
  float* const logits = reinterpret_cast<float*>(call.workspace);  // [T, E]
  auto* ids = call.out[0].as<int32_t>();                           // [T, k]; null: nobody reads it
  auto* values = call.out[1].as<float>();                          // [T, k]; the same
  const int64_t d = weights.k(), n = weights.rows(), k = op.experts_per_token;
  const auto tokens = [type = call.out[0].type, live = call.live] { return live_count(type, live); };
  const size_t picked_bytes = static_cast<size_t>(k) * (sizeof(int32_t) + sizeof(float));
  cpu.scratch(picked_bytes);

  cpu.phase(weights.units(), [=, &isa](int64_t first, int64_t last, const Worker& worker) {
    for_tiles(Products::f32, first, last, n, tokens(), [&](int64_t t, int64_t n_tokens, int64_t begin, int64_t end) {
      float* out = logits + t * n + begin;
      weights.multiply(isa, begin, end, {x + t * d, d}, n_tokens, out, n, worker.scratch);
      bias.add(isa, begin, end, n_tokens, out, n);
    });
  });
  cpu.phase(tokens, [=, &isa, gating = op.gating](int64_t first, int64_t last, const Worker& worker) {
    auto* picked = reinterpret_cast<int32_t*>(worker.scratch);
    auto* weight = reinterpret_cast<float*>(picked + k);
    for (int64_t t = first; t < last; ++t) {
      if (gating != Gating::topk_softmax) softmax(isa, logits + t * n, n);
      top_k(logits + t * n, n, k, picked, weight);
      if (gating == Gating::topk_softmax) softmax(isa, weight, k);
      float sum = 0;
      for (int64_t j = 0; j < k; ++j) sum += weight[j];
      for (int64_t j = 0; j < k; ++j) {
        if (ids) ids[t * k + j] = picked[j];
        if (values) values[t * k + j] = gating == Gating::softmax_topk_renorm ? weight[j] / sum : weight[j];
      }
    }
  });
}

}  // namespace

Kernel moe_route(const IsaKernels& isa) {
  return {
      .name = fmt::format("moe_route.{}", isa.name),
      .covers = {MoeRoute::name},
      .arithmetic = Arithmetic::f32,
      .refuses = [&isa](const Match& match,
                        const DeviceInfo&) { return refuses_weights(isa, match, {MoeRoute::kWeight}, Products::f32); },
      .layout = nullptr,
      .workspace = workspace,
      .prepare = [&isa](const Call& call, Steps& steps) { prepare(isa, call, steps); }};
}

}  // namespace weft::cpu
