// BLOOM: ALiBi, a norm after the embedding, tanh GELU. GGUF holds q, k and v one after the other; Hugging Face by head.
// bloom.apply_residual_connection_post_layernorm (weft's own, default false) is that of config.json: what the norms
// give is added to, not what they read. Sources: Le Scao et al., arXiv:2211.05100; Hugging Face BloomForCausalLM; the
// GGUF architecture of the same name.
#include "models/layers.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr std::string_view kPostNormKey = "apply_residual_connection_post_layernorm";
constexpr DecoderDefaults kDefaults{.norm = NormKind::layer,
                                    .activation = Activation::gelu_tanh,
                                    .d_ff_per_d_model = 4,
                                    .context = 2048};  // config.json states no limit; the models were trained on this

DecoderKeys keys_of(const Metadata& m) { return {m, "bloom", kDefaults}; }

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "bloom", kDefaults);
  if (config.boolean(kPostNormKey, false)) keys.flag(kPostNormKey, true);
  return keys.metadata;
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  const int64_t d = c.d_model;
  constexpr TensorList::Options biased{.bias = Bias::required};
  TensorList list;
  list.add("token_embd", "word_embeddings", {c.n_vocab, d});
  list.add("token_embd_norm", "word_embeddings_layernorm", {d}, biased);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("h.{}.", i));
    list.add("attn_norm", "input_layernorm", {d}, biased);
    list.add("attn_qkv", "self_attention.query_key_value", {3 * d, d},
             {Bias::required, Transform::split_qkv, c.n_head, c.n_head});
    list.add("attn_output", "self_attention.dense", {d, d}, biased);
    list.add("ffn_norm", "post_attention_layernorm", {d}, biased);
    list.add("ffn_up", "mlp.dense_h_to_4h", {c.d_ff, d}, biased);
    list.add("ffn_down", "mlp.dense_4h_to_h", {d, c.d_ff}, biased);
  }
  list.end_layers();
  list.add("output_norm", "ln_f", {d}, biased);
  list.add_output("lm_head", {c.n_vocab, d}).hf_otherwise = "word_embeddings.weight";  // GGUF programs want it
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const bool post_norm = f.metadata.boolean(fmt::format("bloom.{}", kPostNormKey), false);
  AttentionPlan plan{c.attention()};
  plan.op.alibi = true;
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  x = normed(f, x, c, "token_embd_norm");
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    const Attended attended = norm_attention(f, i, x, c, plan);
    x = post_norm ? sequential_mlp(f, i, attended.norm, attended.out, c, Residual::norm)
                  : sequential_mlp(f, i, x, attended.out, c);
  }
  return f.logits(x, c.norm, c.norm_eps);
}

}  // namespace

extern const Architecture kBloom;  // declared in all.cpp
const Architecture kBloom{.name = "bloom",
                          .hf_model_types = {"bloom"},
                          .hf_prefix = "transformer.",
                          .from_hf = from_hf,
                          .derived_from_hf = nullptr,
                          .shape = shape,
                          .tensors = tensors,
                          .forward = forward};

}  // namespace weft
