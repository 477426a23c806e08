// GPT-NeoX: parallel (or sequential) layers with two norms, half-split partial rotary. GGUF holds q, k and v one after
// the other; Hugging Face by head. Source: Black et al., arXiv:2204.06745; the GGUF architecture "gptneox".
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"

namespace weft {
namespace {

// gelu_erf is what the trained models use; a file of a program that runs the tanh form instead is run as the model was
// trained.
constexpr DecoderDefaults kDefaults{.norm = NormKind::layer, .activation = Activation::gelu_erf};

DecoderKeys keys_of(const Metadata& m) { return {m, "gptneox", kDefaults}; }

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "gptneox", kDefaults);
  keys.flag("use_parallel_residual", config.boolean("use_parallel_residual", true));
  config.boolean("attention_bias", true);  // the biases are there or not
  rotary_dim_from_hf(config, {"rope_parameters.partial_rotary_factor", "rotary_pct"}, 0.25, keys);
  rope_from_hf(config, keys);
  if (config.has("rotary_emb_base")) keys.real("rope.freq_base", config.real("rotary_emb_base"));
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, from_hf(config).integer("gptneox.rope.dimension_count"));
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  const int64_t d = c.d_model;
  constexpr TensorList::Options biased{.bias = Bias::required}, maybe{.bias = Bias::optional};
  TensorList list;
  list.add("token_embd", "embed_in", {c.n_vocab, d});
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("layers.{}.", i));
    list.add("attn_norm", "input_layernorm", {d}, biased);
    list.add("attn_qkv", "attention.query_key_value", {3 * d, d},
             {.bias = Bias::optional, .transform = Transform::split_qkv, .heads = c.n_head, .kv_heads = c.n_head});
    list.add("attn_output", "attention.dense", {d, d}, maybe);
    list.add("ffn_norm", "post_attention_layernorm", {d}, biased);
    list.add("ffn_up", "mlp.dense_h_to_4h", {c.d_ff, d}, biased);
    list.add("ffn_down", "mlp.dense_4h_to_h", {d, c.d_ff}, biased);
  }
  list.end_layers();
  list_rope_factors(list, c.rotary_dim);
  list.add("output_norm", "final_layer_norm", {d}, biased);
  list.add_output("embed_out", {c.n_vocab, d});
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const bool parallel = f.metadata.boolean("gptneox.use_parallel_residual", true);
  const AttentionPlan plan = rotary_attention(f, c, Rotary::half);
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    const Value attention = norm_attention(f, i, x, c, plan).out;
    if (parallel) {  // the MLP reads the layer's input through a norm of its own
      x = parallel_mlp(f, i, x, attention, normed(f, x, c, fmt::format("blk.{}.ffn_norm", i)), c);
    } else {
      x = sequential_mlp(f, i, x, attention, c);
    }
  }
  return f.logits(x, c.norm, c.norm_eps);
}

}  // namespace

extern const Architecture kGptNeoX;  // declared in all.cpp
const Architecture kGptNeoX{.name = "gptneox",
                            .hf_model_types = {"gpt_neox"},
                            .hf_prefix = "gpt_neox.",
                            .from_hf = from_hf,
                            .derived_from_hf = derived_from_hf,
                            .shape = shape,
                            .tensors = tensors,
                            .forward = forward};

}  // namespace weft
