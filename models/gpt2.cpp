// GPT-2: learned positions, pre-norm layers, tanh GELU, every matrix with a bias.
// Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; Hugging Face GPT2LMHeadModel;
// the GGUF architecture of the same name.
#include <cmath>

#include "models/blocks.h"
#include "models/forward.h"
#include "ops/embedding.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "ops/mlp_gemm.h"
#include "ops/qkv_gemm.h"
#include "ops/residual_add.h"
#include "ops/vector_matmul.h"

namespace weft {
namespace {

// Keys beside GGUF's own, written only where a config departs from the default: other programs would ignore them.
constexpr std::string_view kActivationKey = "gpt2.hidden_activation";                         // default gelu_tanh
constexpr std::string_view kInverseLayerKey = "gpt2.attention.scale_by_inverse_layer_index";  // default false

struct Config {
  explicit Config(const Metadata& m)
      : n_layer(m.integer("gpt2.block_count")),
        d_model(m.integer("gpt2.embedding_length")),
        n_head(m.integer("gpt2.attention.head_count")),
        d_ff(m.integer("gpt2.feed_forward_length")),
        context(m.integer("gpt2.context_length")),
        eps(static_cast<float>(m.real("gpt2.attention.layer_norm_epsilon"))),
        activation(parse_activation(m.text(kActivationKey, "gelu_tanh"))) {
    check_sizes("gpt2", {{"number of layers", n_layer},
                         {"width", d_model},
                         {"number of heads", n_head},
                         {"feed-forward width", d_ff},
                         {"context", context}});
    require(d_model % n_head == 0, "gpt2: a width of {} cannot be shared by {} heads", d_model, n_head);
    d_head = d_model / n_head;
    scale = m.real("gpt2.attention.scale", 1.0 / std::sqrt(static_cast<double>(d_head)));
    inverse_layer = m.boolean(kInverseLayerKey, false);
  }
  int64_t n_layer, d_model, n_head, d_ff, context, d_head = 0;
  float eps;
  Activation activation;
  double scale = 0;
  bool inverse_layer = false;
};

Metadata from_hf(const Metadata& config) {
  Metadata m;
  const int64_t d_model = config.integer("n_embd");
  set_size(m, "gpt2.context_length", config.integer("n_positions"));
  set_size(m, "gpt2.embedding_length", d_model);
  set_size(m, "gpt2.feed_forward_length", config.integer("n_inner", 4 * d_model));
  set_size(m, "gpt2.block_count", config.integer("n_layer"));
  set_size(m, "gpt2.attention.head_count", config.integer("n_head"));
  m.set("gpt2.attention.layer_norm_epsilon", static_cast<float>(config.real("layer_norm_epsilon", 1e-5)));
  set_size(m, "gpt2.vocab_size", config.integer("vocab_size"));
  const Activation activation = activation_from_hf(config.text("activation_function", "gelu_new"));
  if (activation != Activation::gelu_tanh) m.set(kActivationKey, std::string(to_string(activation)));
  if (!config.boolean("scale_attn_weights", true)) m.set("gpt2.attention.scale", 1.0f);
  if (config.boolean("scale_attn_by_inverse_layer_idx", false)) m.set(kInverseLayerKey, true);
  require(!config.boolean("add_cross_attention", false), "config.json: add_cross_attention is not supported");
  return m;
}

ModelShape shape(const Metadata& m) {
  const Config c(m);
  return {c.context, c.n_layer, vocabulary_size(m, "gpt2"), c.n_head, c.d_head};
}

std::vector<TensorSpec> tensors(const Metadata& m) {
  const Config c(m);
  const int64_t d = c.d_model, v = vocabulary_size(m, "gpt2");
  std::vector<TensorSpec> all = {{"token_embd.weight", {"wte.weight"}, {v, d}},
                                 {"position_embd.weight", {"wpe.weight"}, {c.context, d}}};
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const auto add = [&](std::string_view gguf, std::string_view hf, Shape weight, int64_t bias) {
      const Transform transform = weight.rank() == 2 ? Transform::transpose : Transform::none;
      all.push_back(
          {fmt::format("blk.{}.{}.weight", i, gguf), {fmt::format("h.{}.{}.weight", i, hf)}, weight, transform});
      all.push_back({fmt::format("blk.{}.{}.bias", i, gguf), {fmt::format("h.{}.{}.bias", i, hf)}, {bias}});
    };
    add("attn_norm", "ln_1", {d}, d);
    add("attn_qkv", "attn.c_attn", {3 * d, d}, 3 * d);
    add("attn_output", "attn.c_proj", {d, d}, d);
    add("ffn_norm", "ln_2", {d}, d);
    add("ffn_up", "mlp.c_fc", {c.d_ff, d}, c.d_ff);
    add("ffn_down", "mlp.c_proj", {d, c.d_ff}, d);
  }
  all.push_back({"output_norm.weight", {"ln_f.weight"}, {d}});
  all.push_back({"output_norm.bias", {"ln_f.bias"}, {d}});
  all.push_back({.gguf = "output.weight",
                 .hf = {"lm_head.weight"},
                 .shape = {v, d},
                 .required = false,
                 .hf_otherwise = "wte.weight"});  // absent in GGUF: tied to token_embd
  return all;
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  Graph& g = f.graph;
  Value x =
      g.add(Embedding{}, {f.ids, f.weight("token_embd.weight"), f.positions, f.weight("position_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(g, fmt::format("blk.{}", i));
    const auto w = [&](std::string_view name) { return f.block_weight(i, name); };
    const double scale = c.inverse_layer ? c.scale / static_cast<double>(i + 1) : c.scale;
    const Value qkv =
        g.add(QkvGemm{.norm = NormKind::layer, .eps = c.eps},
              {x, w("attn_qkv.weight"), w("attn_qkv.bias"), w("attn_norm.weight"), w("attn_norm.bias")})[0];
    const Value context = f.attention(i,
                                      {.n_head = static_cast<int>(c.n_head),
                                       .n_kv_head = static_cast<int>(c.n_head),
                                       .d_head = static_cast<int>(c.d_head),
                                       .scale = static_cast<float>(scale)},
                                      {.qkv = qkv});
    const Value attention = g.add(VectorMatmul{}, {context, w("attn_output.weight")})[0];
    const Value mlp = g.add(MlpGemm{.norm = NormKind::layer, .eps = c.eps, .activation = c.activation},
                            {attention, x, w("attn_output.bias"), w("ffn_norm.weight"), w("ffn_norm.bias"),
                             w("ffn_up.weight"), w("ffn_up.bias"), w("ffn_down.weight")})[0];
    x = g.add(ResidualAdd{.mlp_after_attn = true, .pre_layer_norm = true, .mp_size = 1},
              {mlp, x, attention, w("attn_output.bias"), w("ffn_down.bias")})[0];
  }
  x = f.wanted_rows(x);
  x = g.add(LayerNorm{.eps = c.eps}, {x, f.weight("output_norm.weight"), f.weight("output_norm.bias")})[0];
  const Value output = f.weight("output.weight");
  return g.add(Linear{}, {x, output ? output : f.weight("token_embd.weight"), {}})[0];
}

}  // namespace

extern const Architecture kGpt2;  // declared in all.cpp
const Architecture kGpt2{.name = "gpt2",
                         .hf_model_types = {"gpt2"},
                         .hf_prefix = "transformer.",
                         .from_hf = from_hf,
                         .derived_from_hf = nullptr,
                         .shape = shape,
                         .tensors = tensors,
                         .forward = forward};

}  // namespace weft
