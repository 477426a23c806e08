// GPT-NeoX: parallel (or sequential) layers with two norms, half-split partial rotary. GGUF holds q, k and v one after
// the other; Hugging Face by head. Source: Black et al., arXiv:2204.06745; the GGUF architecture "gptneox".
#include <cmath>

#include "models/blocks.h"
#include "models/forward.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"
#include "ops/gelu_gemm.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "ops/mlp_gemm.h"
#include "ops/qkv_gemm.h"
#include "ops/residual_add.h"
#include "ops/vector_matmul.h"

namespace weft {
namespace {

// weft's own. Default gelu_erf, what the trained models use; a file without it from a program that runs the tanh form
// instead is run as the model was trained.
constexpr std::string_view kActivationKey = "gptneox.hidden_activation";

struct Config {
  explicit Config(const Metadata& m)
      : n_layer(m.integer("gptneox.block_count")),
        d_model(m.integer("gptneox.embedding_length")),
        n_head(m.integer("gptneox.attention.head_count")),
        d_ff(m.integer("gptneox.feed_forward_length")),
        context(m.integer("gptneox.context_length")),
        rotary_dim(m.integer("gptneox.rope.dimension_count")),
        eps(static_cast<float>(m.real("gptneox.attention.layer_norm_epsilon"))),
        theta(m.real("gptneox.rope.freq_base", 10000.0)),
        parallel(m.boolean("gptneox.use_parallel_residual", true)),
        activation(parse_activation(m.text(kActivationKey, "gelu_erf"))) {
    check_sizes("gptneox", {{"number of layers", n_layer},
                            {"width", d_model},
                            {"number of heads", n_head},
                            {"feed-forward width", d_ff},
                            {"context", context},
                            {"rotary dimension", rotary_dim}});
    require(d_model % n_head == 0, "gptneox: a width of {} cannot be shared by {} heads", d_model, n_head);
    d_head = d_model / n_head;
  }
  int64_t n_layer, d_model, n_head, d_ff, context, rotary_dim, d_head = 0;
  float eps;
  double theta;
  bool parallel;
  Activation activation;
};

Metadata from_hf(const Metadata& config) {
  Metadata m;
  const int64_t d_model = config.integer("hidden_size"), n_head = config.integer("num_attention_heads");
  set_size(m, "gptneox.context_length", config.integer("max_position_embeddings"));
  set_size(m, "gptneox.embedding_length", d_model);
  set_size(m, "gptneox.block_count", config.integer("num_hidden_layers"));
  set_size(m, "gptneox.feed_forward_length", config.integer("intermediate_size"));
  set_size(m, "gptneox.attention.head_count", n_head);
  m.set("gptneox.attention.layer_norm_epsilon", static_cast<float>(config.real("layer_norm_eps", 1e-5)));
  const double part = config.real("rope_parameters.partial_rotary_factor", config.real("rotary_pct", 0.25));
  require(part > 0 && part <= 1, "partial_rotary_factor is {}, expected up to 1", part);
  set_size(m, "gptneox.rope.dimension_count", static_cast<int64_t>(static_cast<double>(d_model / n_head) * part));
  set_size(m, "gptneox.vocab_size", config.integer("vocab_size"));
  m.set("gptneox.use_parallel_residual", config.boolean("use_parallel_residual", true));
  rope_from_hf(config, "gptneox", m);
  if (config.has("rotary_emb_base"))
    m.set("gptneox.rope.freq_base", static_cast<float>(config.real("rotary_emb_base")));
  const Activation activation = activation_from_hf(config.text("hidden_act", "gelu"));
  if (activation != Activation::gelu_erf) m.set(kActivationKey, std::string(to_string(activation)));
  return m;
}

ModelShape shape(const Metadata& m) {
  const Config c(m);
  return {c.context, c.n_layer, vocabulary_size(m, "gptneox"), c.n_head, c.d_head};
}

std::vector<TensorSpec> tensors(const Metadata& m) {
  const Config c(m);
  const int64_t d = c.d_model, v = vocabulary_size(m, "gptneox");
  std::vector<TensorSpec> all = {{"token_embd.weight", {"gpt_neox.embed_in.weight"}, {v, d}}};
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const auto add = [&](std::string_view gguf, std::string_view hf, Shape weight, bool bias_required,
                         Transform transform = Transform::none) {
      const auto spec = [&](std::string_view kind, Shape s, bool required) {
        all.push_back({fmt::format("blk.{}.{}.{}", i, gguf, kind),
                       {fmt::format("gpt_neox.layers.{}.{}.{}", i, hf, kind)},
                       s,
                       transform,
                       c.n_head,
                       required});
      };
      spec("weight", weight, true);
      spec("bias", {weight[0]}, bias_required);
    };
    add("attn_norm", "input_layernorm", {d}, true);
    add("attn_qkv", "attention.query_key_value", {3 * d, d}, false, Transform::split_qkv);
    add("attn_output", "attention.dense", {d, d}, false);
    add("ffn_norm", "post_attention_layernorm", {d}, true);
    add("ffn_up", "mlp.dense_h_to_4h", {c.d_ff, d}, true);
    add("ffn_down", "mlp.dense_4h_to_h", {d, c.d_ff}, true);
  }
  all.push_back({"output_norm.weight", {"gpt_neox.final_layer_norm.weight"}, {d}});
  all.push_back({"output_norm.bias", {"gpt_neox.final_layer_norm.bias"}, {d}});
  all.push_back(
      {.gguf = "output.weight", .hf = {"embed_out.weight"}, .shape = {v, d}, .required = false});  // absent: tied
  return all;
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  Graph& g = f.graph;
  const RopeScaling scaling = rope_scaling(f.metadata, "gptneox", c.rotary_dim, c.theta);
  const Value factors = scaling.factors.empty() ? Value{} : f.vector(scaling.factors);
  Value x = g.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(g, fmt::format("blk.{}", i));
    const auto w = [&](std::string_view name) { return f.block_weight(i, name); };
    const Value qkv =
        g.add(QkvGemm{.norm = NormKind::layer, .eps = c.eps},
              {x, w("attn_qkv.weight"), w("attn_qkv.bias"), w("attn_norm.weight"), w("attn_norm.bias")})[0];
    const Value context = f.attention(i,
                                      {.n_head = static_cast<int>(c.n_head),
                                       .n_kv_head = static_cast<int>(c.n_head),
                                       .d_head = static_cast<int>(c.d_head),
                                       .rotary = Rotary::half,
                                       .rotary_dim = static_cast<int>(c.rotary_dim),
                                       .rope_theta = static_cast<float>(c.theta),
                                       .rope_attn_scale = scaling.attn_scale,
                                       .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.d_head)))},
                                      {.qkv = qkv, .rope_factors = factors});
    const Value attention = g.add(VectorMatmul{}, {context, w("attn_output.weight")})[0];
    if (c.parallel) {  // the MLP reads the layer's input through a norm of its own
      const Value h = g.add(LayerNorm{.eps = c.eps}, {x, w("ffn_norm.weight"), w("ffn_norm.bias")})[0];
      const Value mlp = g.add(GeluGemm{.activation = c.activation},
                              {h, w("ffn_up.weight"), w("ffn_up.bias"), w("ffn_down.weight")})[0];
      x = g.add(ResidualAdd{.mlp_after_attn = false},
                {mlp, x, attention, w("attn_output.bias"), w("ffn_down.bias")})[0];
    } else {
      const Value mlp = g.add(MlpGemm{.norm = NormKind::layer, .eps = c.eps, .activation = c.activation},
                              {attention, x, w("attn_output.bias"), w("ffn_norm.weight"), w("ffn_norm.bias"),
                               w("ffn_up.weight"), w("ffn_up.bias"), w("ffn_down.weight")})[0];
      x = g.add(ResidualAdd{}, {mlp, x, attention, w("attn_output.bias"), w("ffn_down.bias")})[0];
    }
  }
  x = f.wanted_rows(x);
  x = g.add(LayerNorm{.eps = c.eps}, {x, f.weight("output_norm.weight"), f.weight("output_norm.bias")})[0];
  const Value output = f.weight("output.weight");
  return g.add(Linear{}, {x, output ? output : f.weight("token_embd.weight")})[0];
}

}  // namespace

extern const Architecture kGptNeoX;  // declared in all.cpp
const Architecture kGptNeoX{.name = "gptneox",
                            .hf_model_types = {"gpt_neox"},
                            .hf_prefix = "",
                            .from_hf = from_hf,
                            .derived_from_hf = nullptr,
                            .shape = shape,
                            .tensors = tensors,
                            .forward = forward};

}  // namespace weft
