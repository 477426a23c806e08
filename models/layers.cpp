#include "models/layers.h"

#include "models/blocks.h"
#include "models/rope_scaling.h"
#include "ops/gelu_gemm.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "ops/mlp_gemm.h"
#include "ops/moe_experts.h"
#include "ops/movement.h"
#include "ops/qkv_gemm.h"
#include "ops/quant/f32.h"
#include "ops/residual_add.h"
#include "ops/vector_matmul.h"

namespace weft {
namespace {

Value gain(Forward& f, const DecoderKeys& keys, const std::string& name) {
  if (const Value weight = f.weight(name)) return weight;
  return f.vector(std::vector<float>(static_cast<size_t>(keys.d_model), 1.0f));
}

/// LayerNorm of each head of `row` [T, heads d_head].
Value normed_heads(Forward& f, const DecoderKeys& keys, int64_t layer, Value row, std::string_view name) {
  const Value gamma = f.block_weight(layer, fmt::format("{}.weight", name));
  if (!gamma) return row;
  const Value beta = f.block_weight(layer, fmt::format("{}.bias", name));
  const int64_t t = row.type().shape[0], width = row.type().shape[1];
  const Value heads = reshape(row, {t, width / keys.d_head, keys.d_head});
  if (gamma.type().shape.rank() == 1) return reshape(layer_norm(heads, gamma, beta, keys.norm_eps), {t, width});
  const Value ones = f.vector(std::vector<float>(static_cast<size_t>(keys.d_head), 1.0f));
  return reshape(mul(layer_norm(heads, ones, beta, keys.norm_eps), cast(gamma, quant::f32)), {t, width});
}

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

Value normed(Forward& f, Value x, const DecoderKeys& keys, const std::string& name) {
  return norm(keys.norm, x, gain(f, keys, name + ".weight"), f.weight(name + ".bias"), keys.norm_eps);
}

Value biased(Value x, Value bias) { return bias ? add(x, bias) : x; }

Value soft_capped(Value x, float cap) { return cap > 0 ? mul(tanh(div(x, cap)), cap) : x; }

AttentionPlan rotary_attention(Forward& f, const DecoderKeys& c, Rotary style) {
  AttentionPlan attention{.op = c.attention(style), .rope_factors = f.weight("rope_freqs.weight")};
  attention.op.qk_norm_eps = c.norm_eps;
  const RopeScaling scaling = rope_scaling(f.metadata, c.arch, c.rotary_dim, c.theta, c.yarn_truncate);
  attention.op.rope_attn_scale = scaling.attn_scale;
  if (const Value longer = f.weight("rope_factors_long.weight")) {
    attention.rope_factors = f.stretched() ? longer : f.weight("rope_factors_short.weight");
    require(static_cast<bool>(attention.rope_factors), "{}: has rope_factors_long, lacks rope_factors_short",
            f.model.path());
  } else if (!attention.rope_factors && !scaling.factors.empty()) {
    attention.rope_factors = f.vector(scaling.factors);
  }
  return attention;
}

Value attend(Forward& f, int64_t layer, Value qkv, const DecoderKeys& keys, const AttentionPlan& plan) {
  const auto w = [&](std::string_view name) { return f.block_weight(layer, name); };
  Value q_gamma = w("attn_q_norm.weight"), k_gamma = w("attn_k_norm.weight");
  if (keys.norm == NormKind::layer && (q_gamma || k_gamma)) {  // softmax_context knows RMSNorm only
    const int64_t q = keys.q_rows(), kv = keys.kv_rows();
    qkv = concat(1, {normed_heads(f, keys, layer, slice(qkv, 1, 0, q), "attn_q_norm"),
                     normed_heads(f, keys, layer, slice(qkv, 1, q, kv), "attn_k_norm"), slice(qkv, 1, q + kv, kv)});
    q_gamma = k_gamma = {};
  }
  const Value context = f.attention(layer, plan.op,
                                    {.qkv = qkv,
                                     .q_gamma = q_gamma,
                                     .k_gamma = k_gamma,
                                     .rope_factors = plan.rope_factors,
                                     .sinks = w("attn_sinks.weight")});
  return vector_matmul(context, {w("attn_output.weight")});
}

Attended norm_attention(Forward& f, int64_t layer, Value x, const DecoderKeys& keys, const AttentionPlan& plan,
                        std::string_view norm_name) {
  const std::string norm = fmt::format("blk.{}.{}", layer, norm_name);
  const auto [weights, biases] = f.qkv_blocks(layer);
  const auto qkv = f.graph.add(QkvGemm{.norm = keys.norm, .eps = keys.norm_eps},
                               {x, weights, biases, gain(f, keys, norm + ".weight"), f.weight(norm + ".bias")});
  return {attend(f, layer, qkv[0], keys, plan), qkv[1]};
}

MlpBlocks mlp_blocks(Forward& f, int64_t layer, const DecoderKeys& keys) {
  if (f.block_weight(layer, "ffn_gate.weight"))
    return {gated(keys.activation), f.row_blocks(layer, {"ffn_up", "ffn_gate"})};
  const std::string up = fmt::format("blk.{}.ffn_up.weight", layer);
  if (f.weight(up).type().shape[0] != 2 * keys.d_ff) return {keys.activation, f.row_blocks(layer, {"ffn_up"})};
  return {gated(keys.activation),
          {.weights = {f.weight_rows(up, keys.d_ff, keys.d_ff), f.weight_rows(up, 0, keys.d_ff)}, .biases = {}}};
}

Value sequential_mlp(Forward& f, int64_t layer, Value x, Value attention, const DecoderKeys& keys, Residual residual) {
  const auto w = [&](std::string_view name) { return f.block_weight(layer, name); };
  const auto [activation, in] = mlp_blocks(f, layer, keys);
  const auto mlp =
      f.graph.add(MlpGemm{.norm = keys.norm, .eps = keys.norm_eps, .activation = activation},
                  {attention, x, w("attn_output.bias"), gain(f, keys, fmt::format("blk.{}.ffn_norm.weight", layer)),
                   w("ffn_norm.bias"), in.weights, in.biases, w("ffn_down.weight")});
  if (residual == Residual::norm) {
    require(keys.norm == NormKind::layer, "{}: post-norm layers have LayerNorm", keys.arch);  // else mlp[1] is the sum
    return f.graph.add(ResidualAdd{.pre_layer_norm = false}, {mlp[0], mlp[1], {}, {}, w("ffn_down.bias")})[0];
  }
  return f.graph.add(ResidualAdd{}, {mlp[0], x, attention, w("attn_output.bias"), w("ffn_down.bias")})[0];
}

Value parallel_mlp(Forward& f, int64_t layer, Value x, Value attention, Value h, const DecoderKeys& keys) {
  const auto w = [&](std::string_view name) { return f.block_weight(layer, name); };
  const auto [activation, in] = mlp_blocks(f, layer, keys);
  const Value mlp =
      f.graph.add(GeluGemm{.activation = activation}, {h, in.weights, in.biases, w("ffn_down.weight")})[0];
  return f.graph.add(ResidualAdd{.mlp_after_attn = false},
                     {mlp, x, attention, w("attn_output.bias"), w("ffn_down.bias")})[0];
}

Value sandwich_layer(Forward& f, int64_t layer, Value x, const DecoderKeys& keys, const AttentionPlan& plan) {
  const auto w = [&](std::string_view name) { return f.block_weight(layer, name); };
  const auto after = [&](Value half, Value bias, std::string_view name) {
    return normed(f, biased(half, bias), keys, fmt::format("blk.{}.{}", layer, name));
  };
  const Value attention =
      after(norm_attention(f, layer, x, keys, plan).out, w("attn_output.bias"), "post_attention_norm");
  const auto [activation, in] = mlp_blocks(f, layer, keys);
  const auto mlp = f.graph.add(
      MlpGemm{.norm = keys.norm, .eps = keys.norm_eps, .activation = activation},
      {attention, x, {}, w("ffn_norm.weight"), w("ffn_norm.bias"), in.weights, in.biases, w("ffn_down.weight")});
  require(keys.norm == NormKind::rms, "{}: layers normalized on both sides have RMSNorm",
          keys.arch);  // else mlp[1] is h
  return f.graph.add(ResidualAdd{}, {after(mlp[0], w("ffn_down.bias"), "post_ffw_norm"), mlp[1]})[0];
}

Value sequential_experts(Forward& f, int64_t layer, Value x, Value attention, const DecoderKeys& keys,
                         const ExpertKeys& experts, const Experts& options) {
  Graph& g = f.graph;
  const auto w = [&](std::string_view name) { return f.block_weight(layer, name); };
  x = g.add(ResidualAdd{}, {attention, x, {}, w("attn_output.bias")})[0];
  const Value h = normed(f, x, keys, fmt::format("blk.{}.{}", layer, options.norm));
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

}  // namespace weft
