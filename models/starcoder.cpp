// StarCoder (gpt_bigcode): GPT-2 with plain matrices and, mostly, one key and value head for all query heads. Without
// multi_query Hugging Face stores q, k and v by head, GGUF one after the other. Other programs run the tanh GELU
// whatever the file was trained with; weft's own key hidden_activation says which. Sources: Allal et al.,
// arXiv:2301.03988; Hugging Face GPTBigCodeForCausalLM; the GGUF architecture "starcoder".
#include "models/layers.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{
    .norm = NormKind::layer, .activation = Activation::gelu_tanh, .d_ff_per_d_model = 4};

DecoderKeys keys_of(const Metadata& m) { return {m, "starcoder", kDefaults}; }

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "starcoder", kDefaults);
  const bool multi_query = config.boolean("multi_query", true);
  keys.size("attention.head_count_kv",
            multi_query ? 1 : config.integer({"num_attention_heads", "n_head", "num_heads"}));
  config.has("num_key_value_heads");  // follows from multi_query
  if (!config.boolean("scale_attn_weights", true)) keys.real("attention.scale", 1);
  config.require_off("add_cross_attention");
  return keys.metadata;
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  const int64_t d = c.d_model;
  constexpr TensorList::Options biased{.bias = Bias::required};
  TensorList::Options qkv = biased;
  if (c.n_kv_head > 1) qkv = {Bias::required, Transform::split_qkv, c.n_head, c.n_kv_head};
  TensorList list;
  list.add("token_embd", "wte", {c.n_vocab, d});
  list.add("position_embd", "wpe", {c.context, d});
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("h.{}.", i));
    list.add("attn_norm", "ln_1", {d}, biased);
    list.add("attn_qkv", "attn.c_attn", {c.q_rows() + 2 * c.kv_rows(), d}, qkv);
    list.add("attn_output", "attn.c_proj", {d, c.q_rows()}, biased);
    list.add("ffn_norm", "ln_2", {d}, biased);
    list.add("ffn_up", "mlp.c_fc", {c.d_ff, d}, biased);
    list.add("ffn_down", "mlp.c_proj", {d, c.d_ff}, biased);
  }
  list.end_layers();
  list.add("output_norm", "ln_f", {d}, biased);
  list.add_output("lm_head", {c.n_vocab, d});
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const AttentionPlan plan{c.attention()};
  Value x = f.graph.add(Embedding{},
                        {f.ids, f.weight("token_embd.weight"), f.positions, f.weight("position_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    x = sequential_mlp(f, i, x, norm_attention(f, i, x, c, plan).out, c);
  }
  return f.logits(x, c.norm, c.norm_eps);
}

}  // namespace

extern const Architecture kStarCoder;  // declared in all.cpp
const Architecture kStarCoder{.name = "starcoder",
                              .hf_model_types = {"gpt_bigcode"},
                              .hf_prefix = "transformer.",
                              .from_hf = from_hf,
                              .derived_from_hf = nullptr,
                              .shape = shape,
                              .tensors = tensors,
                              .forward = forward};

}  // namespace weft
