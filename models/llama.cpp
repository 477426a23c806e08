// Llama and its kin: RMSNorm, rotary positions, grouped queries, gated MLP; Mistral adds a window, Mixtral experts.
// GGUF stores q and k rows so that rotary pairs are neighbours. Sources: Touvron et al., arXiv:2302.13971 and
// 2307.09288; Jiang et al., arXiv:2310.06825 and 2401.04088; the GGUF architecture "llama".
#include <cmath>

#include "models/blocks.h"
#include "models/forward.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/mlp_gemm.h"
#include "ops/moe_experts.h"
#include "ops/moe_route.h"
#include "ops/qkv_gemm.h"
#include "ops/residual_add.h"
#include "ops/rms_norm.h"
#include "ops/vector_matmul.h"

namespace weft {
namespace {

constexpr std::string_view kActivationKey = "llama.hidden_activation";  // weft's own; default silu
constexpr int64_t kMostExperts = 1 << 17;  // of all layers; a file that says more is not a model

struct Config {
  explicit Config(const Metadata& m)
      : n_layer(m.integer("llama.block_count")),
        d_model(m.integer("llama.embedding_length")),
        n_head(m.integer("llama.attention.head_count")),
        n_kv_head(m.integer("llama.attention.head_count_kv", n_head)),
        d_ff(m.integer("llama.feed_forward_length")),
        context(m.integer("llama.context_length")),
        d_head(m.integer("llama.attention.key_length", n_head > 0 ? d_model / n_head : 0)),
        rotary_dim(m.integer("llama.rope.dimension_count", d_head)),
        n_expert(m.integer("llama.expert_count", 0)),
        n_expert_used(m.integer("llama.expert_used_count", 0)),
        window(m.integer("llama.attention.sliding_window", 0)),
        eps(static_cast<float>(m.real("llama.attention.layer_norm_rms_epsilon"))),
        theta(m.real("llama.rope.freq_base", 10000.0)),
        scale(m.real("llama.attention.scale", 1.0 / std::sqrt(static_cast<double>(d_head)))),
        activation(gated(parse_activation(m.text(kActivationKey, "silu")))) {
    check_sizes("llama", {{"number of layers", n_layer},
                          {"width", d_model},
                          {"number of heads", n_head},
                          {"number of kv heads", n_kv_head},
                          {"feed-forward width", d_ff},
                          {"context", context},
                          {"head dimension", d_head},
                          {"rotary dimension", rotary_dim}});
    require(m.integer("llama.attention.value_length", d_head) == d_head,
            "llama: keys of {} and values of {} are not supported", d_head,
            m.integer("llama.attention.value_length", d_head));
    require(n_expert == 0 || (n_expert_used > 0 && n_expert_used <= n_expert), "llama: {} of {} experts cannot be used",
            n_expert_used, n_expert);
    require(n_expert <= kMostExperts / n_layer, "llama: {} layers of {} experts are too many", n_layer, n_expert);
    require(rotary_dim <= d_head, "llama: the rotary dimension is {}, heads have {}", rotary_dim, d_head);
    require(window >= 0 && window <= INT32_MAX, "llama: the window is {}", window);
  }
  int64_t n_layer, d_model, n_head, n_kv_head, d_ff, context, d_head, rotary_dim, n_expert, n_expert_used, window;
  float eps;
  double theta, scale;
  Activation activation;
};

int64_t head_dim(const Metadata& config) {
  return config.integer("head_dim", config.integer("hidden_size") / config.integer("num_attention_heads"));
}

Metadata from_hf(const Metadata& config) {
  Metadata m;
  const std::string& type = config.text("model_type");
  const int64_t n_head = config.integer("num_attention_heads");
  set_size(m, "llama.context_length", config.integer("max_position_embeddings"));
  set_size(m, "llama.embedding_length", config.integer("hidden_size"));
  set_size(m, "llama.block_count", config.integer("num_hidden_layers"));
  set_size(m, "llama.feed_forward_length", config.integer("intermediate_size"));
  set_size(m, "llama.attention.head_count", n_head);
  set_size(m, "llama.attention.head_count_kv", config.integer("num_key_value_heads", n_head));
  m.set("llama.attention.layer_norm_rms_epsilon", static_cast<float>(config.real("rms_norm_eps", 1e-6)));
  set_size(m, "llama.attention.key_length", head_dim(config));
  set_size(m, "llama.attention.value_length", head_dim(config));
  set_size(m, "llama.rope.dimension_count", head_dim(config));
  set_size(m, "llama.vocab_size", config.integer("vocab_size"));
  rope_from_hf(config, "llama", m);
  for (const std::string_view key : {"partial_rotary_factor", "rope_parameters.partial_rotary_factor"}) {
    require(config.real(key, 1.0) == 1.0, "{} is not supported", key);
  }
  const Activation activation = activation_from_hf(config.text("hidden_act", "silu"));
  if (activation != Activation::silu) m.set(kActivationKey, std::string(to_string(activation)));
  if (type != "llama" && config.integer("sliding_window", 0) > 0) {
    require(!config.has("layer_types"), "layer_types is not supported");
    set_size(m, "llama.attention.sliding_window", config.integer("sliding_window"));
  }
  if (type == "mixtral") {
    set_size(m, "llama.expert_count", config.integer("num_local_experts"));
    set_size(m, "llama.expert_used_count", config.integer("num_experts_per_tok"));
  }
  return m;
}

std::vector<DerivedTensor> derived_from_hf(const Metadata& config) {
  auto factors = llama3_factors(config, head_dim(config));
  if (factors.empty()) return {};
  return {{"rope_freqs.weight", std::move(factors)}};
}

ModelShape shape(const Metadata& m) {
  const Config c(m);
  return {c.context, c.n_layer, vocabulary_size(m, "llama"), c.n_kv_head, c.d_head};
}

std::vector<TensorSpec> tensors(const Metadata& m) {
  const Config c(m);
  const int64_t d = c.d_model, v = vocabulary_size(m, "llama");
  const int64_t q_rows = c.n_head * c.d_head, k_rows = c.n_kv_head * c.d_head;
  std::vector<TensorSpec> all = {
      {"token_embd.weight", {"model.embed_tokens.weight"}, {v, d}},
      {"output_norm.weight", {"model.norm.weight"}, {d}},
      {.gguf = "output.weight", .hf = {"lm_head.weight"}, .shape = {v, d}, .required = false},  // absent: tied
      {.gguf = "rope_freqs.weight", .hf = {}, .shape = {c.rotary_dim / 2}, .required = false},
  };
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const auto gguf = [&](std::string_view name) { return fmt::format("blk.{}.{}", i, name); };
    const auto hf = [&](std::string_view name) { return fmt::format("model.layers.{}.{}", i, name); };
    const auto with_bias = [&](std::string_view ours, std::string_view theirs, Shape weight, Transform t,
                               int64_t heads) {
      all.push_back({gguf(fmt::format("{}.weight", ours)), {hf(fmt::format("{}.weight", theirs))}, weight, t, heads});
      all.push_back(
          {gguf(fmt::format("{}.bias", ours)), {hf(fmt::format("{}.bias", theirs))}, {weight[0]}, t, heads, false});
    };
    all.push_back({gguf("attn_norm.weight"), {hf("input_layernorm.weight")}, {d}});
    with_bias("attn_q", "self_attn.q_proj", {q_rows, d}, Transform::rotary_pairs, c.n_head);
    with_bias("attn_k", "self_attn.k_proj", {k_rows, d}, Transform::rotary_pairs, c.n_kv_head);
    with_bias("attn_v", "self_attn.v_proj", {k_rows, d}, Transform::none, 0);
    with_bias("attn_output", "self_attn.o_proj", {d, q_rows}, Transform::none, 0);
    all.push_back({gguf("ffn_norm.weight"), {hf("post_attention_layernorm.weight")}, {d}});
    if (c.n_expert == 0) {
      with_bias("ffn_gate", "mlp.gate_proj", {c.d_ff, d}, Transform::none, 0);
      with_bias("ffn_up", "mlp.up_proj", {c.d_ff, d}, Transform::none, 0);
      with_bias("ffn_down", "mlp.down_proj", {d, c.d_ff}, Transform::none, 0);
      continue;
    }
    const auto experts = [&](std::string_view ours, std::string_view theirs, Shape weight) {
      TensorSpec spec{.gguf = gguf(ours), .hf = {}, .shape = weight};
      for (int64_t e = 0; e < c.n_expert; ++e) {
        spec.hf.push_back(hf(fmt::format("block_sparse_moe.experts.{}.{}.weight", e, theirs)));
      }
      all.push_back(std::move(spec));
    };
    all.push_back({gguf("ffn_gate_inp.weight"), {hf("block_sparse_moe.gate.weight")}, {c.n_expert, d}});
    experts("ffn_gate_exps.weight", "w1", {c.n_expert, c.d_ff, d});
    experts("ffn_up_exps.weight", "w3", {c.n_expert, c.d_ff, d});
    experts("ffn_down_exps.weight", "w2", {c.n_expert, d, c.d_ff});
  }
  return all;
}

/// The residual stream after the MLP of layer i.
Value feed_forward(Forward& f, const Config& c, int64_t i, Value x, Value attention) {
  Graph& g = f.graph;
  const auto w = [&](std::string_view name) { return f.block_weight(i, name); };
  const Value output_bias = w("attn_output.bias");
  if (c.n_expert > 0) {
    x = g.add(ResidualAdd{}, {attention, x, {}, output_bias})[0];
    const Value h = g.add(RmsNorm{.eps = c.eps}, {x, w("ffn_norm.weight")})[0];
    const auto route =
        g.add(MoeRoute{.gating = Gating::softmax_topk_renorm, .experts_per_token = static_cast<int>(c.n_expert_used)},
              {h, w("ffn_gate_inp.weight")});
    const Value out = g.add(
        MoeExperts{.activation = c.activation},
        {h, route[0], route[1], w("ffn_up_exps.weight"), w("ffn_gate_exps.weight"), w("ffn_down_exps.weight")})[0];
    return g.add(ResidualAdd{}, {out, x})[0];
  }
  const auto biases = f.block_weights(i, {"ffn_up.bias", "ffn_gate.bias"});
  const Value mlp = g.add(MlpGemm{.norm = NormKind::rms, .eps = c.eps, .activation = c.activation},
                          {attention,
                           x,
                           output_bias,
                           w("ffn_norm.weight"),
                           {},
                           std::vector{w("ffn_up.weight"), w("ffn_gate.weight")},
                           biases,
                           w("ffn_down.weight")})[0];
  return g.add(ResidualAdd{}, {mlp, x, attention, output_bias, w("ffn_down.bias")})[0];
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  Graph& g = f.graph;
  const RopeScaling scaling = rope_scaling(f.metadata, "llama", c.rotary_dim, c.theta);
  Value factors = f.weight("rope_freqs.weight");
  if (!factors && !scaling.factors.empty()) factors = f.vector(scaling.factors);
  Value x = g.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(g, fmt::format("blk.{}", i));
    const auto w = [&](std::string_view name) { return f.block_weight(i, name); };
    const auto biases = f.block_weights(i, {"attn_q.bias", "attn_k.bias", "attn_v.bias"});
    const Value qkv = g.add(
        QkvGemm{.norm = NormKind::rms, .eps = c.eps},
        {x, std::vector{w("attn_q.weight"), w("attn_k.weight"), w("attn_v.weight")}, biases, w("attn_norm.weight")})[0];
    const Value context = f.attention(i,
                                      {.n_head = static_cast<int>(c.n_head),
                                       .n_kv_head = static_cast<int>(c.n_kv_head),
                                       .d_head = static_cast<int>(c.d_head),
                                       .rotary = Rotary::interleaved,
                                       .rotary_dim = static_cast<int>(c.rotary_dim),
                                       .rope_theta = static_cast<float>(c.theta),
                                       .rope_attn_scale = scaling.attn_scale,
                                       .scale = static_cast<float>(c.scale),
                                       .window = static_cast<int>(c.window)},
                                      {.qkv = qkv, .rope_factors = factors});
    const Value attention = g.add(VectorMatmul{}, {context, w("attn_output.weight")})[0];
    x = feed_forward(f, c, i, x, attention);
  }
  x = f.wanted_rows(x);
  x = g.add(RmsNorm{.eps = c.eps}, {x, f.weight("output_norm.weight")})[0];
  const Value output = f.weight("output.weight");
  return g.add(Linear{}, {x, output ? output : f.weight("token_embd.weight")})[0];
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
