// Llama and its kin: RMSNorm, rotary positions, grouped queries, gated MLP; Mistral adds a window, Mixtral experts.
// GGUF stores q and k rows so that rotary pairs are neighbours. Sources: Touvron et al., arXiv:2302.13971 and
// 2307.09288; Jiang et al., arXiv:2310.06825 and 2401.04088; the GGUF architecture "llama".
#include "models/blocks.h"
#include "models/decoder_keys.h"
#include "models/forward.h"
#include "models/rope_scaling.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"
#include "ops/mlp_gemm.h"
#include "ops/moe_experts.h"
#include "ops/moe_route.h"
#include "ops/qkv_gemm.h"
#include "ops/residual_add.h"
#include "ops/rms_norm.h"
#include "ops/vector_matmul.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{.norm = NormKind::rms, .norm_eps = 1e-6, .activation = Activation::silu};

struct Config : DecoderKeys {
  explicit Config(const Metadata& m) : DecoderKeys(m, "llama", kDefaults), experts(m, *this) {}
  ExpertKeys experts;
};

Metadata from_hf(const HfConfig& config) {
  const std::string& type = config.text("model_type");
  KeyWriter keys = decoder_keys_from_hf(config, "llama", kDefaults);
  keys.size("attention.head_count_kv", config.integer({"num_key_value_heads", "num_attention_heads"}));
  keys.size("attention.key_length", head_dim_of(config));
  keys.size("attention.value_length", head_dim_of(config));
  keys.size("rope.dimension_count", head_dim_of(config));
  rope_from_hf(config, keys);
  config.require_value("partial_rotary_factor", 1);
  config.require_value("rope_parameters.partial_rotary_factor", 1);
  config.boolean("attention_bias", false);  // the biases are there or not
  config.boolean("mlp_bias", false);
  const int64_t window = config.integer("sliding_window", 0);
  if (type != "llama" && window > 0) {
    require(!config.has("layer_types"), "layer_types is not supported");
    keys.size("attention.sliding_window", window);
  }
  if (type == "mixtral") {
    keys.size("expert_count", config.integer("num_local_experts"));
    keys.size("expert_used_count", config.integer("num_experts_per_tok"));
  }
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_freqs_from_hf(config, head_dim_of(config));
}

ModelShape shape(const Metadata& m) { return Config(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const Config c(m);
  const int64_t d = c.d_model;
  constexpr TensorList::Options maybe{.bias = Bias::optional};
  const auto paired = [](int64_t heads) {
    return TensorList::Options{.bias = Bias::optional, .transform = Transform::rotary_pairs, .heads = heads};
  };
  TensorList list;
  list.add("token_embd", "model.embed_tokens", {c.n_vocab, d});
  list.add("output_norm", "model.norm", {d});
  list.add_output("lm_head", {c.n_vocab, d});
  list.add_derived("rope_freqs.weight", {c.rotary_dim / 2});
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("model.layers.{}.", i));
    list.add("attn_norm", "input_layernorm", {d});
    list.add("attn_q", "self_attn.q_proj", {c.q_rows(), d}, paired(c.n_head));
    list.add("attn_k", "self_attn.k_proj", {c.kv_rows(), d}, paired(c.n_kv_head));
    list.add("attn_v", "self_attn.v_proj", {c.kv_rows(), d}, maybe);
    list.add("attn_output", "self_attn.o_proj", {d, c.q_rows()}, maybe);
    list.add("ffn_norm", "post_attention_layernorm", {d});
    if (c.experts.count == 0) {
      list.add("ffn_gate", "mlp.gate_proj", {c.d_ff, d}, maybe);
      list.add("ffn_up", "mlp.up_proj", {c.d_ff, d}, maybe);
      list.add("ffn_down", "mlp.down_proj", {d, c.d_ff}, maybe);
    } else {
      list.add("ffn_gate_inp", "block_sparse_moe.gate", {c.experts.count, d});
      list.add_experts("ffn_gate_exps", "block_sparse_moe.experts.{}.w1", c.experts.count, {c.experts.d_ff, d});
      list.add_experts("ffn_up_exps", "block_sparse_moe.experts.{}.w3", c.experts.count, {c.experts.d_ff, d});
      list.add_experts("ffn_down_exps", "block_sparse_moe.experts.{}.w2", c.experts.count, {d, c.experts.d_ff});
    }
  }
  return list.take();
}

/// The residual stream after the MLP of layer i.
Value feed_forward(Forward& f, const Config& c, int64_t i, Value x, Value attention) {
  Graph& g = f.graph;
  const auto w = [&](std::string_view name) { return f.block_weight(i, name); };
  const Value output_bias = w("attn_output.bias");
  if (c.experts.count > 0) {
    x = g.add(ResidualAdd{}, {attention, x, {}, output_bias})[0];
    const Value h = g.add(RmsNorm{.eps = c.norm_eps}, {x, w("ffn_norm.weight")})[0];
    const auto route =
        g.add(MoeRoute{.gating = Gating::softmax_topk_renorm, .experts_per_token = static_cast<int>(c.experts.used)},
              {h, w("ffn_gate_inp.weight")});
    const Value out = g.add(
        MoeExperts{.activation = gated(c.activation)},
        {h, route[0], route[1], w("ffn_up_exps.weight"), w("ffn_gate_exps.weight"), w("ffn_down_exps.weight")})[0];
    return g.add(ResidualAdd{}, {out, x})[0];
  }
  const auto [weights, biases] = f.row_blocks(i, {"ffn_up", "ffn_gate"});
  const Value mlp =
      g.add(MlpGemm{.norm = NormKind::rms, .eps = c.norm_eps, .activation = gated(c.activation)},
            {attention, x, output_bias, w("ffn_norm.weight"), {}, weights, biases, w("ffn_down.weight")})[0];
  return g.add(ResidualAdd{}, {mlp, x, attention, output_bias, w("ffn_down.bias")})[0];
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  Graph& g = f.graph;
  const RopeScaling scaling = rope_scaling(f.metadata, c.arch, c.rotary_dim, c.theta);
  Value factors = f.weight("rope_freqs.weight");
  if (!factors && !scaling.factors.empty()) factors = f.vector(scaling.factors);
  SoftmaxContext attend = c.attention(Rotary::interleaved);
  attend.rope_attn_scale = scaling.attn_scale;
  Value x = g.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(g, fmt::format("blk.{}", i));
    const auto w = [&](std::string_view name) { return f.block_weight(i, name); };
    const auto [weights, biases] = f.row_blocks(i, {"attn_q", "attn_k", "attn_v"});
    const Value qkv =
        g.add(QkvGemm{.norm = NormKind::rms, .eps = c.norm_eps}, {x, weights, biases, w("attn_norm.weight")})[0];
    const Value context = f.attention(i, attend, {.qkv = qkv, .rope_factors = factors});
    const Value attention = g.add(VectorMatmul{}, {context, w("attn_output.weight")})[0];
    x = feed_forward(f, c, i, x, attention);
  }
  return f.logits(x, NormKind::rms, c.norm_eps);
}

}  // namespace

extern const Architecture kLlama;  // declared in all.cpp
const Architecture kLlama{.name = "llama",
                          .hf_model_types = {"llama", "mistral", "mixtral"},
                          .hf_prefix = "",
                          .from_hf = from_hf,
                          .derived_from_hf = derived_from_hf,
                          .shape = shape,
                          .tensors = tensors,
                          .forward = forward};

}  // namespace weft
