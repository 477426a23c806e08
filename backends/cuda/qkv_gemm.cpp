// qkv_gemm: a norm that leaves the activations in the products' form, then the projection.
#include "ops/qkv_gemm.h"

#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/products.h"
#include "backends/cuda/steps.h"

namespace weft::cuda {
namespace {

struct Workspace {
  size_t norm = 0, form = 0, panel = 0, total = 0;  // offsets

  Workspace(Products products, const Match& match) {
    const TensorType x = match.type(QkvGemm::kX);
    const int64_t tokens = x.shape[0], k = x.shape[1];
    const bool own_norm = !match.wants(1) && reads_f32(products);
    form = own_norm ? aligned(x.bytes()) : 0;
    panel = form + Activations::bytes(products, tokens, k);
    total = panel + expansion_bytes(products, match.types(QkvGemm::kWeight));
  }
};

void prepare(Products products, const Call& call, Steps& steps) {
  const auto& op = call.match.op<QkvGemm>();
  const Workspace at(products, call.match);
  const Tensor x = call.input(QkvGemm::kX), qkv = call.out[0];
  float* norm = call.out[1].as<float>();
  if (norm == nullptr && reads_f32(products)) norm = reinterpret_cast<float*>(call.workspace + at.norm);
  const Extent tokens = extent_of(qkv.type, call.live);
  const NormArgs args{.x = x.as<float>(),
                      .norm = op.norm == NormKind::layer ? Norm::layer : Norm::rms,
                      .gamma = call.input(QkvGemm::kGamma).as<float>(),
                      .beta = call.input(QkvGemm::kBeta).as<float>(),
                      .eps = op.eps,
                      .tokens = tokens,
                      .d = x.dim(1),
                      .out = norm};
  const auto h = Activations::make(products, call.workspace + at.form, args, steps);
  const Projection projection(products, call.inputs(QkvGemm::kWeight), call.inputs(QkvGemm::kBias));
  projection.multiply(h, tokens, {}, qkv.as<float>(), call.workspace + at.panel, steps);
  if (!is_few(products)) projection.finish(h, tokens, qkv.as<float>(), steps);
}

}  // namespace

Kernel qkv_gemm(Products products) {
  return {.name = kernel_name(QkvGemm::name, products),
          .covers = {QkvGemm::name},
          .arithmetic = arithmetic_of(products),
          .launches = launches_of(products),
          .refuses = [products](const Match& match, const DeviceInfo&) -> std::optional<std::string> {
            if (auto reason = refuses_bias(match, QkvGemm::kWeight, QkvGemm::kBias)) return reason;
            return refuses_weights(match, {QkvGemm::kWeight}, products);
          },
          .layout = layout_of(products, {QkvGemm::kWeight}),
          .workspace = [products](const Match& match) { return Workspace(products, match).total; },
          .prepare = [products](const Call& call, Steps& steps) { prepare(products, call, steps); }};
}

}  // namespace weft::cuda
