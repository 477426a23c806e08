// GPT-J: parallel layers under one norm, interleaved partial rotary, no attention biases. No other GGUF program runs
// it: names and keys follow GGUF's habits (../shared/gguf.md). Source: Wang and Komatsuzaki, "GPT-J-6B", 2021; Hugging
// Face GPTJForCausalLM.
#include <cmath>

#include "models/blocks.h"
#include "models/forward.h"
#include "ops/embedding.h"
#include "ops/gelu_gemm.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "ops/qkv_gemm.h"
#include "ops/residual_add.h"
#include "ops/vector_matmul.h"

namespace weft {
namespace {

constexpr std::string_view kActivationKey = "gptj.hidden_activation";  // weft's own; default gelu_tanh

struct Config {
  explicit Config(const Metadata& m)
      : n_layer(m.integer("gptj.block_count")),
        d_model(m.integer("gptj.embedding_length")),
        n_head(m.integer("gptj.attention.head_count")),
        d_ff(m.integer("gptj.feed_forward_length")),
        context(m.integer("gptj.context_length")),
        rotary_dim(m.integer("gptj.rope.dimension_count")),
        eps(static_cast<float>(m.real("gptj.attention.layer_norm_epsilon"))),
        theta(m.real("gptj.rope.freq_base", 10000.0)),
        activation(parse_activation(m.text(kActivationKey, "gelu_tanh"))) {
    check_sizes("gptj", {{"number of layers", n_layer},
                         {"width", d_model},
                         {"number of heads", n_head},
                         {"feed-forward width", d_ff},
                         {"context", context},
                         {"rotary dimension", rotary_dim}});
    require(d_model % n_head == 0, "gptj: a width of {} cannot be shared by {} heads", d_model, n_head);
    d_head = d_model / n_head;
  }
  int64_t n_layer, d_model, n_head, d_ff, context, rotary_dim, d_head = 0;
  float eps;
  double theta;
  Activation activation;
};

Metadata from_hf(const Metadata& config) {
  Metadata m;
  const int64_t d_model = config.integer("n_embd");
  set_size(m, "gptj.context_length", config.integer("n_positions"));
  set_size(m, "gptj.embedding_length", d_model);
  set_size(m, "gptj.block_count", config.integer("n_layer"));
  set_size(m, "gptj.feed_forward_length", config.integer("n_inner", 4 * d_model));
  set_size(m, "gptj.attention.head_count", config.integer("n_head"));
  m.set("gptj.attention.layer_norm_epsilon", static_cast<float>(config.real("layer_norm_epsilon", 1e-5)));
  set_size(m, "gptj.rope.dimension_count", config.integer("rotary_dim", d_model / config.integer("n_head")));
  set_size(m, "gptj.vocab_size", config.integer("vocab_size"));
  const Activation activation = activation_from_hf(config.text("activation_function", "gelu_new"));
  if (activation != Activation::gelu_tanh) m.set(kActivationKey, std::string(to_string(activation)));
  return m;
}

ModelShape shape(const Metadata& m) {
  const Config c(m);
  return {c.context, c.n_layer, vocabulary_size(m, "gptj"), c.n_head, c.d_head};
}

std::vector<TensorSpec> tensors(const Metadata& m) {
  const Config c(m);
  const int64_t d = c.d_model, v = vocabulary_size(m, "gptj");
  std::vector<TensorSpec> all = {{"token_embd.weight", {"wte.weight"}, {v, d}}};
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const auto add = [&](std::string_view gguf, std::string_view hf, Shape s) {
      all.push_back({fmt::format("blk.{}.{}", i, gguf), {fmt::format("h.{}.{}", i, hf)}, s});
    };
    add("attn_norm.weight", "ln_1.weight", {d});
    add("attn_norm.bias", "ln_1.bias", {d});
    add("attn_q.weight", "attn.q_proj.weight", {d, d});
    add("attn_k.weight", "attn.k_proj.weight", {d, d});
    add("attn_v.weight", "attn.v_proj.weight", {d, d});
    add("attn_output.weight", "attn.out_proj.weight", {d, d});
    add("ffn_up.weight", "mlp.fc_in.weight", {c.d_ff, d});
    add("ffn_up.bias", "mlp.fc_in.bias", {c.d_ff});
    add("ffn_down.weight", "mlp.fc_out.weight", {d, c.d_ff});
    add("ffn_down.bias", "mlp.fc_out.bias", {d});
  }
  all.push_back({"output_norm.weight", {"ln_f.weight"}, {d}});
  all.push_back({"output_norm.bias", {"ln_f.bias"}, {d}});
  all.push_back(
      {.gguf = "output.weight", .hf = {"lm_head.weight"}, .shape = {v, d}, .required = false});  // absent: tied
  all.push_back({.gguf = "output.bias", .hf = {"lm_head.bias"}, .shape = {v}, .required = false});
  return all;
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  Graph& g = f.graph;
  Value x = g.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(g, fmt::format("blk.{}", i));
    const auto w = [&](std::string_view name) { return f.block_weight(i, name); };
    const auto qkv = g.add(QkvGemm{.norm = NormKind::layer, .eps = c.eps},
                           {x,
                            std::vector{w("attn_q.weight"), w("attn_k.weight"), w("attn_v.weight")},
                            {},
                            w("attn_norm.weight"),
                            w("attn_norm.bias")});
    const Value context = f.attention(i,
                                      {.n_head = static_cast<int>(c.n_head),
                                       .n_kv_head = static_cast<int>(c.n_head),
                                       .d_head = static_cast<int>(c.d_head),
                                       .rotary = Rotary::interleaved,
                                       .rotary_dim = static_cast<int>(c.rotary_dim),
                                       .rope_theta = static_cast<float>(c.theta),
                                       .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.d_head)))},
                                      {.qkv = qkv[0]});
    const Value attention = g.add(VectorMatmul{}, {context, w("attn_output.weight")})[0];
    const Value mlp = g.add(GeluGemm{.activation = c.activation},
                            {qkv[1], w("ffn_up.weight"), w("ffn_up.bias"), w("ffn_down.weight")})[0];
    x = g.add(ResidualAdd{.mlp_after_attn = false}, {mlp, x, attention, {}, w("ffn_down.bias")})[0];
  }
  x = f.wanted_rows(x);
  x = g.add(LayerNorm{.eps = c.eps}, {x, f.weight("output_norm.weight"), f.weight("output_norm.bias")})[0];
  const Value output = f.weight("output.weight");
  return g.add(Linear{}, {x, output ? output : f.weight("token_embd.weight"), f.weight("output.bias")})[0];
}

}  // namespace

extern const Architecture kGptJ;  // declared in all.cpp
const Architecture kGptJ{.name = "gptj",
                         .hf_model_types = {"gptj"},
                         .hf_prefix = "transformer.",
                         .from_hf = from_hf,
                         .derived_from_hf = nullptr,
                         .shape = shape,
                         .tensors = tensors,
                         .forward = forward};

}  // namespace weft
