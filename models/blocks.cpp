#include "models/blocks.h"

#include <array>
#include <utility>

#include "graph/error.h"
#include "models/rope_scaling.h"
#include "ops/gelu_gemm.h"
#include "ops/linear.h"
#include "ops/mlp_gemm.h"
#include "ops/moe_experts.h"
#include "ops/qkv_gemm.h"
#include "ops/residual_add.h"
#include "ops/rms_norm.h"
#include "ops/vector_matmul.h"

namespace weft {

Activation activation_from_hf(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Activation>, 8> kNames = {{
      {"gelu_new", Activation::gelu_tanh},
      {"gelu_fast", Activation::gelu_tanh},
      {"gelu_pytorch_tanh", Activation::gelu_tanh},
      {"gelu", Activation::gelu_erf},
      {"gelu_python", Activation::gelu_erf},
      {"relu", Activation::relu},
      {"silu", Activation::silu},
      {"swish", Activation::silu},
  }};
  for (const auto& [known, activation] : kNames) {
    if (known == name) return activation;
  }
  fail("config.json: the activation {} is not supported", name);
}

Activation gated(Activation activation) {
  switch (activation) {
    case Activation::gelu_tanh:
      return Activation::gated_gelu_tanh;
    case Activation::gelu_erf:
      return Activation::gated_gelu_erf;
    case Activation::relu:
      return Activation::gated_relu;
    case Activation::silu:
      return Activation::gated_silu;
    default:
      return activation;
  }
}

int64_t vocabulary_size(const Metadata& metadata, std::string_view arch) {
  const std::string key = fmt::format("{}.vocab_size", arch);
  return metadata.has(key) ? metadata.integer(key)
                           : static_cast<int64_t>(metadata.texts("tokenizer.ggml.tokens").size());
}

KeyWriter rotary_decoder_keys_from_hf(const HfConfig& config, std::string_view arch, const DecoderDefaults& defaults,
                                      int64_t d_head) {
  KeyWriter keys = decoder_keys_from_hf(config, arch, defaults);
  keys.size("attention.head_count_kv", config.integer({"num_key_value_heads", "num_attention_heads"}));
  if (d_head == 0 || config.has("head_dim")) d_head = head_dim_of(config);
  for (const char* key : {"attention.key_length", "attention.value_length", "rope.dimension_count"}) {
    keys.size(key, d_head);
  }
  rope_from_hf(config, keys, {.theta = defaults.theta, .yarn_truncate = defaults.yarn_truncate});
  require_whole_heads_rotate(config);
  return keys;
}

// -- tensors
// ----------------------------------------------------------------------------------------------------------

void list_attention(TensorList& list, const DecoderKeys& c, Transform q_and_k) {
  const auto rotating = [&](int64_t heads) {
    return TensorList::Options{.bias = Bias::optional, .transform = q_and_k, .heads = heads};
  };
  constexpr TensorList::Options plain{.bias = Bias::optional};
  list.add("attn_q", "self_attn.q_proj", {c.q_rows(), c.d_model}, rotating(c.n_head));
  list.add("attn_k", "self_attn.k_proj", {c.kv_rows(), c.d_model}, rotating(c.n_kv_head));
  list.add("attn_v", "self_attn.v_proj", {c.kv_rows(), c.d_model}, plain);
  list.add("attn_output", "self_attn.o_proj", {c.d_model, c.q_rows()}, plain);
}

void list_gated_mlp(TensorList& list, const DecoderKeys& c) {
  constexpr TensorList::Options maybe{.bias = Bias::optional};
  list.add("ffn_gate", "mlp.gate_proj", {c.d_ff, c.d_model}, maybe);
  list.add("ffn_up", "mlp.up_proj", {c.d_ff, c.d_model}, maybe);
  list.add("ffn_down", "mlp.down_proj", {c.d_model, c.d_ff}, maybe);
}

void list_experts(TensorList& list, const DecoderKeys& c, const ExpertKeys& experts) {
  list.add("ffn_gate_inp", "mlp.gate", {experts.count, c.d_model});
  list.add_experts("ffn_gate_exps", "mlp.experts.{}.gate_proj", experts.count, {experts.d_ff, c.d_model});
  list.add_experts("ffn_up_exps", "mlp.experts.{}.up_proj", experts.count, {experts.d_ff, c.d_model});
  list.add_experts("ffn_down_exps", "mlp.experts.{}.down_proj", experts.count, {c.d_model, experts.d_ff});
}

// -- layers
// -----------------------------------------------------------------------------------------------------------

Value biased(Value x, Value bias) { return bias ? add(x, bias) : x; }

AttentionPlan rotary_attention(Forward& f, const DecoderKeys& c, Rotary style) {
  AttentionPlan attention{.op = c.attention(style), .rope_factors = f.weight("rope_freqs.weight")};
  attention.op.qk_norm_eps = c.norm_eps;
  const RopeScaling scaling = rope_scaling(f.metadata, c.arch, c.rotary_dim, c.theta, c.yarn_truncate);
  attention.op.rope_attn_scale = scaling.attn_scale;
  if (const Value longer = f.weight("rope_factors_long.weight")) {
    const std::string key = fmt::format("{}.rope.scaling.original_context_length", c.arch);
    attention.rope_factors = f.context() > f.metadata.integer(key) ? longer : f.weight("rope_factors_short.weight");
    require(static_cast<bool>(attention.rope_factors), "{}: has rope_factors_long, lacks rope_factors_short",
            f.model.path());
  } else if (!attention.rope_factors && !scaling.factors.empty()) {
    attention.rope_factors = f.vector(scaling.factors);
  }
  return attention;
}

Value attend(Forward& f, int64_t layer, Value qkv, const AttentionPlan& attention) {
  const auto w = [&](std::string_view name) { return f.block_weight(layer, name); };
  const Value context = f.attention(layer, attention.op,
                                    {.qkv = qkv,
                                     .q_gamma = w("attn_q_norm.weight"),
                                     .k_gamma = w("attn_k_norm.weight"),
                                     .rope_factors = attention.rope_factors,
                                     .sinks = w("attn_sinks.weight")});
  return vector_matmul(context, {w("attn_output.weight")});
}

Value rms_attention(Forward& f, int64_t layer, Value x, const DecoderKeys& c, const AttentionPlan& attention) {
  const auto [weights, biases] = f.qkv_blocks(layer);
  const Value qkv = f.graph.add(QkvGemm{.norm = NormKind::rms, .eps = c.norm_eps},
                                {x, weights, biases, f.block_weight(layer, "attn_norm.weight")})[0];
  return attend(f, layer, qkv, attention);
}

Forward::RowBlocks up_and_gate(Forward& f, int64_t layer, const DecoderKeys& c) {
  if (f.block_weight(layer, "ffn_gate.weight")) return f.row_blocks(layer, {"ffn_up", "ffn_gate"});
  const std::string stacked = fmt::format("blk.{}.ffn_up.weight", layer);
  return {.weights = {f.weight_rows(stacked, c.d_ff, c.d_ff), f.weight_rows(stacked, 0, c.d_ff)}, .biases = {}};
}

Value rms_gated_mlp(Forward& f, int64_t layer, Value x, Value attention, const DecoderKeys& c) {
  const auto w = [&](std::string_view name) { return f.block_weight(layer, name); };
  const Value output_bias = w("attn_output.bias");
  const auto [weights, biases] = up_and_gate(f, layer, c);
  const Value mlp =
      f.graph.add(MlpGemm{.norm = NormKind::rms, .eps = c.norm_eps, .activation = gated(c.activation)},
                  {attention, x, output_bias, w("ffn_norm.weight"), {}, weights, biases, w("ffn_down.weight")})[0];
  return f.graph.add(ResidualAdd{}, {mlp, x, attention, output_bias, w("ffn_down.bias")})[0];
}

Value rms_sandwich_layer(Forward& f, int64_t layer, Value x, const DecoderKeys& c, const AttentionPlan& attention) {
  Graph& g = f.graph;
  const auto w = [&](std::string_view name) { return f.block_weight(layer, name); };
  const Value attended = biased(rms_attention(f, layer, x, c, attention), w("attn_output.bias"));
  const auto [weights, biases] = up_and_gate(f, layer, c);
  const auto mlp = g.add(MlpGemm{.norm = NormKind::rms, .eps = c.norm_eps, .activation = gated(c.activation)},
                         {rms_norm(attended, w("post_attention_norm.weight"), c.norm_eps),
                          x,
                          {},
                          w("ffn_norm.weight"),
                          {},
                          weights,
                          biases,
                          w("ffn_down.weight")});
  const Value out = rms_norm(biased(mlp[0], w("ffn_down.bias")), w("post_ffw_norm.weight"), c.norm_eps);
  return g.add(ResidualAdd{}, {out, mlp[1]})[0];
}

namespace {

/// The expert that every token goes through; null if the layer has none.
Value shared_expert(Forward& f, int64_t layer, Value h, Activation activation) {
  const auto w = [&](std::string_view name) { return f.block_weight(layer, name); };
  if (!w("ffn_down_shexp.weight")) return {};
  const Value out = gelu_gemm(activation, h, {w("ffn_up_shexp.weight"), w("ffn_gate_shexp.weight")}, {},
                              {w("ffn_down_shexp.weight")});
  const Value gate = linear(h, {w("ffn_gate_inp_shexp.weight")}, {});  // [T, 1]
  return mul(out, reciprocal(add(exp(neg(gate)), 1.0f)));
}

}  // namespace

Value rms_experts(Forward& f, int64_t layer, Value x, Value attention, const DecoderKeys& c, const ExpertKeys& experts,
                  const Experts& options) {
  Graph& g = f.graph;
  const auto w = [&](std::string_view name) { return f.block_weight(layer, name); };
  x = g.add(ResidualAdd{}, {attention, x, {}, w("attn_output.bias")})[0];
  const Value h = rms_norm(x, w(fmt::format("{}.weight", options.norm)), c.norm_eps);
  const Gating gating =
      options.gating.value_or(experts.weights_norm ? Gating::softmax_topk_renorm : Gating::softmax_topk);
  const auto route = g.add(MoeRoute{.gating = gating, .experts_per_token = static_cast<int>(experts.used)},
                           {h, w("ffn_gate_inp.weight"), w("ffn_gate_inp.bias")});
  const Value out =
      g.add(MoeExperts{.activation = options.activation},
            {h, route[0], route[1], w("ffn_up_exps.weight"), w("ffn_gate_exps.weight"), w("ffn_down_exps.weight"),
             w("ffn_up_exps.bias"), w("ffn_gate_exps.bias"), w("ffn_down_exps.bias")})[0];
  return g.add(ResidualAdd{}, {out, x, shared_expert(f, layer, h, options.activation)})[0];
}

Value soft_capped(Value x, float cap) { return cap > 0 ? mul(tanh(div(x, cap)), cap) : x; }

}  // namespace weft
