// linear and vector_matmul: activations into the products' form, then the projection. Of one token a norm before a
// linear, as before the logits, is the beginning of the product.
#include "ops/linear.h"

#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/products.h"
#include "backends/cuda/steps.h"
#include "ops/layer_norm.h"
#include "ops/rms_norm.h"
#include "ops/vector_matmul.h"

namespace weft::cuda {
namespace {

static_assert(size_t{Linear::kX} == size_t{VectorMatmul::kX} &&
                  size_t{Linear::kWeight} == size_t{VectorMatmul::kWeight},
              "one kernel serves both: a vector_matmul is a linear without a bias");

size_t form_bytes(Products products, const Match& match) {
  const TensorType x = match.type(Linear::kX);
  return Activations::bytes(products, x.shape[0], x.shape[1]);
}

void prepare(Products products, const Call& call, Steps& steps) {
  const Tensor x = call.input(Linear::kX), y = call.out[0];
  const Extent tokens = extent_of(y.type, call.live);
  const auto form =
      Activations::make(products, call.workspace, {.x = x.as<float>(), .tokens = tokens, .d = x.dim(1)}, steps);
  const Projection projection(products, call.inputs(Linear::kWeight), call.inputs(Linear::kBias));
  projection.multiply(form, tokens, {}, y.as<float>(), call.workspace + form_bytes(products, call.match), steps);
  if (!is_few(products)) projection.finish(form, tokens, y.as<float>(), steps);
}

Kernel kernel_of(std::string_view op, Products products) {
  return {.name = kernel_name(op, products),
          .covers = {op},
          .arithmetic = arithmetic_of(products),
          .launches = launches_of(products),
          .refuses = [products](const Match& match, const DeviceInfo&) -> std::optional<std::string> {
            if (auto reason = refuses_bias(match, Linear::kWeight, Linear::kBias)) return reason;
            return refuses_weights(match, {Linear::kWeight}, products);
          },
          .layout = layout_of(products, {Linear::kWeight}),
          .workspace =
              [products](const Match& match) {
                return form_bytes(products, match) + expansion_bytes(products, match.types(Linear::kWeight));
              },
          .prepare = [products](const Call& call, Steps& steps) { prepare(products, call, steps); }};
}

/// The linear of a norm and a linear.
Match linear_of(const Match& match) { return {.graph = match.graph, .nodes = {match.nodes[1]}, .uses = match.uses}; }

template <typename Op>
void prepare_normed(Norm norm, Products products, const Call& call, Steps& steps) {
  const Tensor x = call.input(Op::kX), y = call.out[0];
  NormArgs args{.x = x.as<float>(),
                .norm = norm,
                .gamma = call.input(Op::kGamma).template as<float>(),
                .eps = call.match.op<Op>().eps,
                .tokens = extent_of(y.type, call.live),
                .d = x.dim(1)};
  if constexpr (std::is_same_v<Op, LayerNorm>) args.beta = call.input(Op::kBeta).template as<float>();
  const auto form = Activations::make(products, nullptr, args, steps);
  const Projection projection(products, call.inputs(Linear::kWeight, 1), call.inputs(Linear::kBias, 1));
  projection.multiply(form, args.tokens, {}, y.as<float>(), nullptr, steps);
}

template <typename Op>
Kernel normed_linear(Norm norm, Products products) {
  return {
      .name = kernel_name(fmt::format("{}+{}", Op::name, Linear::name), products),
      .covers = {Op::name, Linear::name},
      .arithmetic = arithmetic_of(products),
      .launches = launches_of(products),
      .refuses = [products](const Match& match, const DeviceInfo&) -> std::optional<std::string> {
        const TensorType x = match.type(Op::kX);
        if (x.shape.rank() != 2 || x.shape[0] != 1) return "several tokens' products do not make their activations";
        const int64_t most = own_row(products);
        if (x.shape[1] > most) return fmt::format("rows are longer than {}", most);
        const Match linear = linear_of(match);
        if (auto reason = refuses_bias(linear, Linear::kWeight, Linear::kBias)) return reason;
        return refuses_weights(linear, {Linear::kWeight}, products);
      },
      .layout = layout_of(products, {Linear::kWeight}, 1),
      .workspace = nullptr,
      .prepare = [norm, products](const Call& call, Steps& steps) { prepare_normed<Op>(norm, products, call, steps); }};
}

}  // namespace

Kernel layer_norm_linear(Products products) { return normed_linear<LayerNorm>(Norm::layer, products); }
Kernel rms_norm_linear(Products products) { return normed_linear<RmsNorm>(Norm::rms, products); }
Kernel linear(Products products) { return kernel_of(Linear::name, products); }
Kernel vector_matmul(Products products) { return kernel_of(VectorMatmul::name, products); }

}  // namespace weft::cuda
