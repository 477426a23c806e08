#include "models/layers.h"

#include "ops/gelu_gemm.h"
#include "ops/layer_norm.h"
#include "ops/mlp_gemm.h"
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

Value projected_context(Forward& f, const DecoderKeys& keys, int64_t layer, Value qkv, const AttentionPlan& plan) {
  if (f.block_weight(layer, "attn_q_norm.weight") || f.block_weight(layer, "attn_k_norm.weight")) {
    const int64_t q = keys.q_rows(), kv = keys.kv_rows();
    qkv = concat(1, {normed_heads(f, keys, layer, slice(qkv, 1, 0, q), "attn_q_norm"),
                     normed_heads(f, keys, layer, slice(qkv, 1, q, kv), "attn_k_norm"), slice(qkv, 1, q + kv, kv)});
  }
  const Value context = f.attention(layer, plan.op, {.qkv = qkv, .rope_factors = plan.rope_factors});
  return f.graph.add(VectorMatmul{}, {context, f.block_weight(layer, "attn_output.weight")})[0];
}

struct Mlp {
  Activation activation;
  Forward::RowBlocks in;
};

Mlp mlp_of(Forward& f, const DecoderKeys& keys, int64_t layer) {
  if (!f.block_weight(layer, "ffn_gate.weight")) return {keys.activation, f.row_blocks(layer, {"ffn_up"})};
  return {gated(keys.activation), f.row_blocks(layer, {"ffn_up", "ffn_gate"})};
}

}  // namespace

Value normed(Forward& f, Value x, const DecoderKeys& keys, const std::string& name) {
  return norm(keys.norm, x, gain(f, keys, name + ".weight"), f.weight(name + ".bias"), keys.norm_eps);
}

Attended norm_attention(Forward& f, int64_t layer, Value x, const DecoderKeys& keys, const AttentionPlan& plan,
                        std::string_view norm_name) {
  const std::string norm = fmt::format("blk.{}.{}", layer, norm_name);
  const auto [weights, biases] = f.qkv_blocks(layer);
  const auto qkv = f.graph.add(QkvGemm{.norm = keys.norm, .eps = keys.norm_eps},
                               {x, weights, biases, gain(f, keys, norm + ".weight"), f.weight(norm + ".bias")});
  return {projected_context(f, keys, layer, qkv[0], plan), qkv[1]};
}

Value sequential_mlp(Forward& f, int64_t layer, Value x, Value attention, const DecoderKeys& keys, Residual residual) {
  const auto w = [&](std::string_view name) { return f.block_weight(layer, name); };
  const auto [activation, in] = mlp_of(f, keys, layer);
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
  const auto [activation, in] = mlp_of(f, keys, layer);
  const Value mlp =
      f.graph.add(GeluGemm{.activation = activation}, {h, in.weights, in.biases, w("ffn_down.weight")})[0];
  return f.graph.add(ResidualAdd{.mlp_after_attn = false},
                     {mlp, x, attention, w("attn_output.bias"), w("ffn_down.bias")})[0];
}

}  // namespace weft
