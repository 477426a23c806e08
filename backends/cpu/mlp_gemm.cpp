// mlp_gemm, alone or with the residual_add that follows it: tasks are units of rows of each weight.
//   expand    interm = act(norm(s) W1^T + b1), s = input + residual + input_bias. Few tokens: each thread adds and
//             normalizes into its scratch. Many: a phase before does that, shared out by tokens, and quantizes for
//             packed weights
//   contract  output = interm W2^T, and the residual's terms while a tile is in cache
// Bound by the weights' bytes at one token, by arithmetic from about 16 on.
#include "ops/mlp_gemm.h"

#include <cstring>

#include "backends/cpu/kernels.h"
#include "backends/cpu/mlp.h"
#include "backends/cpu/norm.h"
#include "backends/cpu/residual.h"

namespace weft::cpu {
namespace {

size_t mlp_bytes(const Match& match, Products products) {
  return Mlp::workspace_bytes(match, MlpGemm::kWeightInterm, MlpGemm::kWeightOut, products);
}

/// The MLP's, then h if the tokens are normalized once for all.
size_t workspace(const Match& match, Products products) {
  const TensorType x = match.type(MlpGemm::kInput);
  return mlp_bytes(match, products) + (x.shape[0] > kRecomputeTokens ? x.bytes() : 0);
}

/// s and h of one token.
struct Sum {
  const float *input, *residual, *input_bias;  // [T, D], [T, D], [D] or null
  Norm norm;
  float* residual_add;  // [T, D] or null: nobody reads it

  /// h [D]; `store`: this thread writes the second output.
  void operator()(int64_t t, bool store, float* h) const {
    const int64_t d = norm.n;
    std::memcpy(h, input + t * d, static_cast<size_t>(d) * sizeof(float));
    norm.isa->add(h, residual + t * d, d);
    if (input_bias) norm.isa->add(h, input_bias, d);
    float* out = store && residual_add ? residual_add + t * d : nullptr;
    if (out && norm.kind == NormKind::rms) std::memcpy(out, h, static_cast<size_t>(d) * sizeof(float));
    norm(h, h);
    if (out && norm.kind == NormKind::layer) std::memcpy(out, h, static_cast<size_t>(d) * sizeof(float));
  }
};

void prepare(const IsaKernels& isa, Products products, const Call& call, Steps& steps) {
  const auto& op = call.match.op<MlpGemm>();
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, workspace(call.match, products));

  const bool chained = call.in.size() > 1;  // with residual_add: the chain's output is its own
  const Mlp mlp(isa, op.activation, call, MlpGemm::kWeightInterm, MlpGemm::kBias, MlpGemm::kWeightOut, products,
                call.workspace);
  const int64_t d = mlp.d_model(), capacity = call.input(MlpGemm::kInput).dim(0);
  const Sum sum{
      call.input(MlpGemm::kInput).as<float>(), call.input(MlpGemm::kResidual).as<float>(),
      call.input(MlpGemm::kInputBias).as<float>(),
      Norm{&isa, op.norm, op.eps, call.input(MlpGemm::kGamma).as<float>(), call.input(MlpGemm::kBeta).as<float>(), d},
      chained ? nullptr : call.out[1].as<float>()};
  const auto tokens = [type = call.out[0].type, live = call.live] { return live_count(type, live); };
  const size_t scratch = mlp.scratch_bytes();

  if (capacity <= kRecomputeTokens) {
    cpu.scratch(scratch + static_cast<size_t>(capacity * d) * sizeof(float));
    const auto expand = [=](int64_t first, int64_t last, const Worker& worker) {
      float* h = reinterpret_cast<float*>(worker.scratch + scratch);
      const int64_t live = tokens();
      for (int64_t t = 0; worker.fresh && t < live; ++t) sum(t, first == 0, h + t * d);
      mlp.expand(first, last, live, h, worker);
    };
    cpu.phase(mlp.interm_units(), expand, After::previous, unit_grain(capacity, products));
  } else {
    cpu.scratch(scratch);
    float* h = reinterpret_cast<float*>(call.workspace + mlp_bytes(call.match, products));
    cpu.phase(tokens, [=](int64_t first, int64_t last, const Worker&) {
      for (int64_t t = first; t < last; ++t) sum(t, true, h + t * d);
      if (mlp.quantizer().shared()) mlp.quantizer().rows(h, d, first, last);
    });
    const auto expand = [=](int64_t first, int64_t last, const Worker& worker) {
      mlp.expand(first, last, tokens(), h, worker);
    };
    cpu.phase(mlp.interm_units(), expand, After::previous, unit_grain(capacity, products));
  }

  float* const out = call.out[0].as<float>();
  if (!out) return;
  std::optional<Residual> residual;
  if (chained) residual.emplace(call, 1);
  if (mlp.quantizes_interm()) {
    cpu.phase(tokens, [=](int64_t first, int64_t last, const Worker&) { mlp.quantize_interm(first, last); });
  }
  const auto contract = [=](int64_t first, int64_t last, const Worker& worker) {
    mlp.contract(first, last, tokens(), out, worker, [&](int64_t t, int64_t n, int64_t begin, int64_t end) {
      if (!residual) return;
      for (int64_t i = t; i < t + n; ++i) residual->add(out + i * d + begin, i, begin, end, out + i * d + begin);
    });
  };
  cpu.phase(mlp.out_units(), contract, After::previous, unit_grain(capacity, products));
}

/// A chain needs mlp_gemm's first output as residual_add's hidden, and nothing else of it.
std::optional<std::string> refuses(const IsaKernels& isa, const Match& match, Products products) {
  if (match.nodes.size() > 1) {
    const Value hidden = match.node(1).in[ResidualAdd::kHidden];
    if (hidden.node != match.nodes[0] || hidden.port != 0) return "residual_add's hidden is not mlp_gemm's output";
    for (const size_t slot : {ResidualAdd::kResidual, ResidualAdd::kAttention}) {
      const Value value = match.node(1).in[slot];
      if (value && value.node == match.nodes[0]) return "residual_add reads mlp_gemm's second output";
    }
  }
  return refuses_weights(isa, match, {MlpGemm::kWeightInterm, MlpGemm::kWeightOut}, products);
}

Kernel make(std::string_view name, std::vector<std::string_view> covers, const IsaKernels& isa, Products products) {
  return {.name = kernel_name(name, isa, products),
          .covers = std::move(covers),
          .arithmetic = arithmetic_of(products),
          .refuses = [&isa, products](const Match& match, const DeviceInfo&) { return refuses(isa, match, products); },
          .layout = layout_of(products),
          .workspace = [products](const Match& match) { return workspace(match, products); },
          .prepare = [&isa, products](const Call& call, Steps& steps) { prepare(isa, products, call, steps); }};
}

}  // namespace

Kernel mlp_gemm(const IsaKernels& isa, Products products) {
  return make(MlpGemm::name, {MlpGemm::name}, isa, products);
}

Kernel mlp_gemm_residual_add(const IsaKernels& isa, Products products) {
  return make("mlp_gemm.residual_add", {MlpGemm::name, ResidualAdd::name}, isa, products);
}

}  // namespace weft::cpu
