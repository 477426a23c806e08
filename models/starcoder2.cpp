// StarCoder2: LayerNorm and a plain tanh-GELU MLP around grouped, half-split rotary attention, with biases and often a
// window. Sources: Lozhkov et al., arXiv:2402.19173; Hugging Face Starcoder2ForCausalLM; the GGUF architecture of the
// same name.
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{.norm = NormKind::layer, .activation = Activation::gelu_tanh};

DecoderKeys keys_of(const Metadata& m) { return {m, "starcoder2", kDefaults}; }

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "starcoder2", kDefaults);
  keys.size("attention.head_count_kv", config.integer("num_key_value_heads", 2));
  if (config.has("norm_epsilon")) keys.real("attention.layer_norm_epsilon", config.real("norm_epsilon"));
  rope_from_hf(config, keys);
  require_whole_heads_rotate(config);
  if (const int64_t window = config.integer("sliding_window", 0); window != 0) {
    keys.size("attention.sliding_window", window);
  }
  config.boolean("use_bias", true);  // the biases are there or not
  config.require_value("norm_type", "layer_norm");
  config.require_value("mlp_type", "default");
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, head_dim_of(config));
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  const int64_t d = c.d_model;
  constexpr TensorList::Options biased{.bias = Bias::required}, maybe{.bias = Bias::optional};
  TensorList list;
  list.add("token_embd", "embed_tokens", {c.n_vocab, d});
  list_rope_factors(list, c.rotary_dim);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("layers.{}.", i));
    list.add("attn_norm", "input_layernorm", {d}, biased);
    list.add("attn_q", "self_attn.q_proj", {c.q_rows(), d}, maybe);
    list.add("attn_k", "self_attn.k_proj", {c.kv_rows(), d}, maybe);
    list.add("attn_v", "self_attn.v_proj", {c.kv_rows(), d}, maybe);
    list.add("attn_output", "self_attn.o_proj", {d, c.q_rows()}, maybe);
    list.add("ffn_norm", "post_attention_layernorm", {d}, biased);
    list.add("ffn_up", "mlp.c_fc", {c.d_ff, d}, maybe);
    list.add("ffn_down", "mlp.c_proj", {d, c.d_ff}, maybe);
  }
  list.end_layers();
  list.add("output_norm", "norm", {d}, biased);
  list.add_output("lm_head", {c.n_vocab, d});
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const AttentionPlan plan = rotary_attention(f, c, Rotary::half);
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    x = sequential_mlp(f, i, x, norm_attention(f, i, x, c, plan).out, c);
  }
  return f.logits(x, c.norm, c.norm_eps);
}

}  // namespace

extern const Architecture kStarCoder2;  // declared in all.cpp
const Architecture kStarCoder2{.name = "starcoder2",
                               .hf_model_types = {"starcoder2"},
                               .hf_prefix = "model.",
                               .from_hf = from_hf,
                               .derived_from_hf = derived_from_hf,
                               .shape = shape,
                               .tensors = tensors,
                               .forward = forward};

}  // namespace weft
