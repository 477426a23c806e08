// mlp_gemm (and with it residual_add, where that follows) and gelu_gemm: up and gate, the activation, down.
#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/products.h"
#include "backends/cuda/residual.h"
#include "backends/cuda/steps.h"
#include "ops/gelu_gemm.h"
#include "ops/mlp_gemm.h"

namespace weft::cuda {
namespace {

// Of the clamped form, where the op has no attribute for them: Activate's defaults.
constexpr float kAlpha = Activate{}.alpha, kLimit = Activate{}.limit;

/// Where the slots of an MLP are in its op.
struct MlpSlots {
  size_t up, bias, down;
};
constexpr MlpSlots kMlpGemm{MlpGemm::kWeightInterm, MlpGemm::kBias, MlpGemm::kWeightOut};
constexpr MlpSlots kGeluGemm{GeluGemm::kWeight, GeluGemm::kBias, GeluGemm::kWeightOut};

/// Offsets in the workspace of what an MLP keeps between its kernels.
struct Layout {
  size_t h = 0, h_form = 0, wide = 0, interm = 0, interm_form = 0, panel = 0, total = 0;

  Layout(Products products, const Match& match, const MlpSlots& slots, bool keeps_h) {
    const auto up = match.types(slots.up), down = match.types(slots.down);
    const int64_t tokens = match.last().out[0].shape[0], d = up[0].shape[1], f = down[0].shape[1];
    int64_t n = 0;
    for (const TensorType& type : up) n += type.shape[0];
    const auto floats = [&](int64_t columns) { return aligned(static_cast<size_t>(tokens * columns) * sizeof(float)); };
    h_form = h + (keeps_h ? floats(d) : 0);
    wide = h_form + Activations::bytes(products, tokens, d);
    interm = wide + floats(n);
    interm_form = interm + floats(f);
    panel = interm_form + Activations::bytes(products, tokens, f);
    total = panel + std::max(expansion_bytes(products, up), expansion_bytes(products, down));
  }
};

bool is_one_type(std::span<const Tensor> blocks) {
  return std::ranges::all_of(blocks,
                             [&](const Tensor& block) { return block.type.dtype == blocks.front().type.dtype; });
}

/// Where the first product writes the form that the second takes, if it can.
FragmentRows made_form(Products products, const Call& call, const MlpSlots& slots, Activation activation,
                       const Layout& at, Extent tokens) {
  const Projection up(products, call.inputs(slots.up), call.inputs(slots.bias));
  const Projection down(products, call.inputs(slots.down), {});
  if (products != Products::skinny || tokens.capacity == 1 || !is_one_type(call.inputs(slots.up))) return {};
  const FragmentRows h = FragmentRows::at(call.workspace + at.h_form, tokens.capacity, up.k());
  const FragmentRows made = FragmentRows::at(call.workspace + at.interm_form, tokens.capacity, down.k());
  const bool makes = up.is_staged({.fragments = h}, tokens, {.gated = is_gated(activation), .made = made}) &&
                     down.is_staged({.fragments = made, .largest = made.unscale}, tokens, {});
  return makes ? made : FragmentRows{};
}

/// What residual_add adds to an MLP's output.
struct Ending {
  Residual residual;
  bool is_in_y = false;  // but for its final bias
  Tensor final_bias;
};

/// Whether what residual_add adds is, but for its final bias, what the MLP begins with: the sum that it takes the norm
/// of.
bool ends_with_the_sum(const Call& call) {
  const Node &mlp = call.match.node(0), &add = call.match.node(1);
  const auto& op = call.match.op<ResidualAdd>(1);
  return op.mlp_after_attn && op.pre_layer_norm && op.mp_size == 1 &&
         mlp.in[MlpGemm::kInput] == add.in[ResidualAdd::kAttention] &&
         mlp.in[MlpGemm::kResidual] == add.in[ResidualAdd::kResidual] &&
         mlp.in[MlpGemm::kInputBias] == add.in[ResidualAdd::kAttentionBias];
}

/// From h in the products' form to the output, to which the ending is added where there is one.
void mlp(Products products, const Call& call, const MlpSlots& slots, Activation activation, const Activations& h,
         const Layout& at, Extent tokens, const Ending* ending, float* y, const FragmentRows& made, Steps& steps) {
  std::byte* memory = call.workspace;
  const bool onto = ending != nullptr && ending->is_in_y;
  const Projection up(products, call.inputs(slots.up), call.inputs(slots.bias));
  const Projection down(
      products, call.inputs(slots.down),
      onto && ending->final_bias.data != nullptr ? std::span(&ending->final_bias, 1) : std::span<const Tensor>());
  const bool gated = is_gated(activation);
  const int64_t f = down.k();
  float *wide = reinterpret_cast<float*>(memory + at.wide), *interm = reinterpret_cast<float*>(memory + at.interm);

  // Up and gate, with the activation where both come out of one kernel.
  bool activated = false;
  if (is_few(products)) {
    activated = !gated || is_one_type(call.inputs(slots.up));
    Epilogue epilogue{.alpha = kAlpha, .limit = kLimit, .made = made};
    if (activated) epilogue.act = act_of(activation), epilogue.gated = gated;
    up.multiply(h, tokens, epilogue, activated ? interm : wide, memory + at.panel, steps);
  } else {
    up.multiply(h, tokens, {.leaves_bias = up.bias() != nullptr}, wide, memory + at.panel, steps);
    if (up.bias() == nullptr && !call.inputs(slots.bias).empty()) up.finish(h, tokens, wide, steps);
  }
  if (!activated) {
    const bool added = is_few(products) || up.bias() == nullptr;  // the bias is in already
    const bool finished = !is_few(products) && up.bias() == nullptr && !call.inputs(slots.bias).empty();
    ActArgs args{.x = wide,
                 .gated = gated,
                 .act = act_of(activation),
                 .alpha = kAlpha,
                 .limit = kLimit,
                 .bias = added ? nullptr : up.bias(),
                 .unscale = finished ? nullptr : h.f16.unscale,
                 .tokens = tokens,
                 .d = f};
    if (products == Products::half) args.f16 = F16Rows::at(memory + at.interm_form, tokens.capacity, f);
    else args.out = interm;
    emit(steps, [args](cudaStream_t stream) { launch_activate(args, stream); });
  }
  Activations form;
  if (products == Products::half) form.f16 = F16Rows::at(memory + at.interm_form, tokens.capacity, f);
  else if (made.x != nullptr) form = {.x = interm, .fragments = made, .largest = made.unscale};
  else form = Activations::make(products, memory + at.interm_form, {.x = interm, .tokens = tokens, .d = f}, steps);

  Epilogue last{.onto = onto};
  if (ending != nullptr) last.residual = ending->residual, last.adds = true;
  down.multiply(form, tokens, last, y, memory + at.panel, steps);
  if (is_few(products)) return;
  if (ending == nullptr) return down.finish(form, tokens, y, steps);
  emit(steps, [=, r = ending->residual, unscale = form.f16.unscale, n = down.rows()](cudaStream_t stream) {
    if (onto) launch_rescale(y, unscale, r, tokens, n, n, stream);
    else launch_residual(y, unscale, r, y, tokens, n, stream);
  });
}

void prepare_mlp_gemm(Products products, const Call& call, Steps& steps) {
  const auto& op = call.match.op<MlpGemm>();
  const bool chained = call.match.nodes.size() > 1;
  const Layout at(products, call.match, kMlpGemm, reads_f32(products));
  const Tensor x = call.input(MlpGemm::kInput);
  const Extent tokens = extent_of(call.out[0].type, call.live);
  // residual_add: h for LayerNorm, s for RMSNorm.
  float* second = chained ? nullptr : call.out[1].as<float>();
  float* h_out = reads_f32(products) ? reinterpret_cast<float*>(call.workspace + at.h) : nullptr;
  if (op.norm == NormKind::layer && second != nullptr) h_out = second;
  const FragmentRows made = made_form(products, call, kMlpGemm, op.activation, at, tokens);
  std::optional<Ending> ending;
  if (chained) {
    ending = {.residual = residual_of(call, 1), .final_bias = call.input(ResidualAdd::kFinalBias, 1)};
    ending->is_in_y = products == Products::half && ends_with_the_sum(call);
  }
  float *y = call.out[0].as<float>(), *sum = op.norm == NormKind::rms ? second : nullptr;
  const NormArgs args{.x = x.as<float>(),
                      .residual = call.input(MlpGemm::kResidual).as<float>(),
                      .bias = call.input(MlpGemm::kInputBias).as<float>(),
                      .norm = op.norm == NormKind::layer ? Norm::layer : Norm::rms,
                      .gamma = call.input(MlpGemm::kGamma).as<float>(),
                      .beta = call.input(MlpGemm::kBeta).as<float>(),
                      .eps = op.eps,
                      .tokens = tokens,
                      .d = x.dim(1),
                      .sum = chained && ending->is_in_y ? y : sum,
                      .out = h_out,
                      .clears = made.unscale};
  const auto h = Activations::make(products, call.workspace + at.h_form, args, steps);
  mlp(products, call, kMlpGemm, op.activation, h, at, tokens, ending ? &*ending : nullptr, y, made, steps);
}

void prepare_gelu_gemm(Products products, const Call& call, Steps& steps) {
  const Layout at(products, call.match, kGeluGemm, false);
  const Tensor x = call.input(GeluGemm::kX);
  const Extent tokens = extent_of(call.out[0].type, call.live);
  const Activation activation = call.match.op<GeluGemm>().activation;
  const FragmentRows made = made_form(products, call, kGeluGemm, activation, at, tokens);
  const auto h =
      Activations::make(products, call.workspace + at.h_form,
                        {.x = x.as<float>(), .tokens = tokens, .d = x.dim(1), .clears = made.unscale}, steps);
  mlp(products, call, kGeluGemm, activation, h, at, tokens, nullptr, call.out[0].as<float>(), made, steps);
}

/// Whether residual_add takes the MLP's output as `hidden`, and nothing else from the chain.
std::optional<std::string> refuses_chain(const Match& match) {
  const Node& add = match.node(1);
  if (add.in[ResidualAdd::kHidden] != Value{const_cast<Graph*>(match.graph), match.nodes[0], 0}) {
    return "residual_add takes the MLP's output elsewhere";
  }
  return std::nullopt;
}

}  // namespace

Kernel mlp_gemm(Products products) {
  return {.name = kernel_name(MlpGemm::name, products),
          .covers = {MlpGemm::name},
          .arithmetic = arithmetic_of(products),
          .launches = 2 * launches_of(products),
          .refuses = [products](const Match& match, const DeviceInfo&) -> std::optional<std::string> {
            if (auto reason = refuses_bias(match, kMlpGemm.up, kMlpGemm.bias)) return reason;
            return refuses_weights(match, {kMlpGemm.up, kMlpGemm.down}, products);
          },
          .layout = layout_of(products, {kMlpGemm.up, kMlpGemm.down}),
          .workspace =
              [products](const Match& match) { return Layout(products, match, kMlpGemm, reads_f32(products)).total; },
          .prepare = [products](const Call& call, Steps& steps) { prepare_mlp_gemm(products, call, steps); }};
}

Kernel mlp_gemm_residual_add(Products products) {
  Kernel kernel = mlp_gemm(products);
  kernel.name = kernel_name("mlp_gemm+residual_add", products);
  kernel.covers = {MlpGemm::name, ResidualAdd::name};
  kernel.refuses = [alone = kernel.refuses](const Match& match,
                                            const DeviceInfo& device) -> std::optional<std::string> {
    if (auto reason = refuses_chain(match)) return reason;
    return alone(match, device);
  };
  return kernel;
}

Kernel gelu_gemm(Products products) {
  return {.name = kernel_name(GeluGemm::name, products),
          .covers = {GeluGemm::name},
          .arithmetic = arithmetic_of(products),
          .launches = 2 * launches_of(products),
          .refuses = [products](const Match& match, const DeviceInfo&) -> std::optional<std::string> {
            if (auto reason = refuses_bias(match, kGeluGemm.up, kGeluGemm.bias)) return reason;
            return refuses_weights(match, {kGeluGemm.up, kGeluGemm.down}, products);
          },
          .layout = layout_of(products, {kGeluGemm.up, kGeluGemm.down}),
          .workspace = [products](const Match& match) { return Layout(products, match, kGeluGemm, false).total; },
          .prepare = [products](const Call& call, Steps& steps) { prepare_gelu_gemm(products, call, steps); }};
}

}  // namespace weft::cuda
