// Gemma: Llama with embeddings times the root of the width, GeGLU, and gains of norms that Hugging Face stores less 1;
// half-split rotary, tied output. Source: Gemma Team, arXiv:2403.08295; Hugging Face GemmaForCausalLM; the GGUF
// architecture "gemma".
#include <cmath>

#include "models/blocks.h"
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{.norm = NormKind::rms, .norm_eps = 1e-6, .activation = Activation::gelu_tanh};
constexpr int64_t kHeadDim = 256;  // where config.json says nothing

DecoderKeys keys_of(const Metadata& m) { return {m, "gemma", kDefaults}; }

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = rotary_decoder_keys_from_hf(config, "gemma", kDefaults, kHeadDim);
  // hidden_activation is an older field, which transformers 5 does not read; "gelu" is what the first releases call the
  // tanh form.
  const std::string activation = config.text({"hidden_act", "hidden_activation"}, "gelu");
  set_activation(keys, activation == "gelu" ? Activation::gelu_tanh : activation_from_hf(activation), kDefaults);
  config.boolean("attention_bias", false);  // the biases are there or not
  config.require_off("use_bidirectional_attention");
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, config.integer("head_dim", kHeadDim));
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  constexpr TensorList::Options gain{.transform = Transform::add_one};
  TensorList list;
  list.add("token_embd", "embed_tokens", {c.n_vocab, c.d_model});
  list.add("output_norm", "norm", {c.d_model}, gain);
  list.add_output("lm_head", {c.n_vocab, c.d_model});
  list_rope_factors(list, c.rotary_dim);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("layers.{}.", i));
    list.add("attn_norm", "input_layernorm", {c.d_model}, gain);
    list_attention(list, c);
    list.add("ffn_norm", "post_attention_layernorm", {c.d_model}, gain);
    list_gated_mlp(list, c);
  }
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const AttentionPlan attention = rotary_attention(f, c, Rotary::half);
  const auto scale = std::sqrt(static_cast<float>(c.d_model));
  Value x = f.graph.add(Embedding{.scale = scale}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    x = sequential_mlp(f, i, x, norm_attention(f, i, x, c, attention).out, c);
  }
  return f.logits(x, NormKind::rms, c.norm_eps);
}

}  // namespace

extern const Architecture kGemma;  // declared in all.cpp
const Architecture kGemma{.name = "gemma",
                          .hf_model_types = {"gemma"},
                          .hf_prefix = "model.",
                          .from_hf = from_hf,
                          .derived_from_hf = derived_from_hf,
                          .shape = shape,
                          .tensors = tensors,
                          .forward = forward};

}  // namespace weft
