// GPT-J: parallel layers under one norm, interleaved partial rotary, no attention biases. No other GGUF program runs
// it: names and keys follow GGUF's habits (../shared/gguf.md). Source: Wang and Komatsuzaki, "GPT-J-6B", 2021; Hugging
// Face GPTJForCausalLM.
#include "models/layers.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{
    .norm = NormKind::layer, .activation = Activation::gelu_tanh, .d_ff_per_d_model = 4};

DecoderKeys keys_of(const Metadata& m) { return {m, "gptj", kDefaults}; }

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "gptj", kDefaults);
  keys.size("rope.dimension_count", config.integer("rotary_dim", head_dim_of(config)));
  return keys.metadata;
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  const int64_t d = c.d_model;
  constexpr TensorList::Options biased{.bias = Bias::required};
  TensorList list;
  list.add("token_embd", "wte", {c.n_vocab, d});
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("h.{}.", i));
    list.add("attn_norm", "ln_1", {d}, biased);
    list.add("attn_q", "attn.q_proj", {d, d});
    list.add("attn_k", "attn.k_proj", {d, d});
    list.add("attn_v", "attn.v_proj", {d, d});
    list.add("attn_output", "attn.out_proj", {d, d});
    list.add("ffn_up", "mlp.fc_in", {c.d_ff, d}, biased);
    list.add("ffn_down", "mlp.fc_out", {d, c.d_ff}, biased);
  }
  list.end_layers();
  list.add("output_norm", "ln_f", {d}, biased);
  list.add_output("lm_head", {c.n_vocab, d}, Bias::optional);
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const AttentionPlan plan{c.attention(Rotary::interleaved)};
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    const Attended attended = norm_attention(f, i, x, c, plan);
    x = parallel_mlp(f, i, x, attended.out, attended.norm, c);
  }
  return f.logits(x, c.norm, c.norm_eps);
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
