// Phi 1, 1.5 and 2: parallel layers under one norm, half-split partial rotary, every matrix with a bias, the output
// too. q, k and v are separate tensors, or attn_qkv in files made from the first release. With qk_layernorm, which
// other programs do not run, attn_q_norm and attn_k_norm are LayerNorms over each head. Sources: Li et al.,
// arXiv:2309.05463; Hugging Face PhiForCausalLM; the GGUF architecture "phi2".
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr std::string_view kHeadNormKey = "attention.qk_layernorm";  // weft's own; default false
constexpr DecoderDefaults kDefaults{.norm = NormKind::layer, .activation = Activation::gelu_tanh};

DecoderKeys keys_of(const Metadata& m) { return {m, "phi2", kDefaults}; }

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "phi2", kDefaults);
  keys.size("attention.head_count_kv", config.integer({"num_key_value_heads", "num_attention_heads"}));
  rotary_dim_from_hf(config, {"rope_parameters.partial_rotary_factor", "partial_rotary_factor"}, 0.5, keys);
  rope_from_hf(config, keys);
  if (config.boolean("qk_layernorm", false)) keys.flag(kHeadNormKey, true);
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, from_hf(config).integer("phi2.rope.dimension_count"));
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  const int64_t d = c.d_model;
  constexpr TensorList::Options biased{.bias = Bias::required};
  TensorList list;
  list.add("token_embd", "embed_tokens", {c.n_vocab, d});
  list_rope_factors(list, c.rotary_dim);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("layers.{}.", i));
    list.add("attn_norm", "input_layernorm", {d}, biased);
    list.add_qkv({"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, c.q_rows(), c.kv_rows(), d,
                 Bias::required);
    if (m.boolean(fmt::format("phi2.{}", kHeadNormKey), false)) {
      list.add("attn_q_norm", "self_attn.q_layernorm", {c.d_head}, biased);
      list.add("attn_k_norm", "self_attn.k_layernorm", {c.d_head}, biased);
    }
    list.add("attn_output", "self_attn.dense", {d, c.q_rows()}, biased);
    list.add("ffn_up", "mlp.fc1", {c.d_ff, d}, biased);
    list.add("ffn_down", "mlp.fc2", {d, c.d_ff}, biased);
  }
  list.end_layers();
  list.add("output_norm", "final_layernorm", {d}, biased);
  list.add_output("lm_head", {c.n_vocab, d}, Bias::optional);
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const AttentionPlan plan = rotary_attention(f, c, Rotary::half);
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    const Attended attended = norm_attention(f, i, x, c, plan);
    x = parallel_mlp(f, i, x, attended.out, attended.norm, c);
  }
  return f.logits(x, c.norm, c.norm_eps);
}

}  // namespace

extern const Architecture kPhi2;  // declared in all.cpp
const Architecture kPhi2{.name = "phi2",
                         .hf_model_types = {"phi"},
                         .hf_prefix = "model.",
                         .from_hf = from_hf,
                         .derived_from_hf = derived_from_hf,
                         .shape = shape,
                         .tensors = tensors,
                         .forward = forward};

}  // namespace weft
