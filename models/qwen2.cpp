// Qwen2: Llama with biases on q, k, v and half-split rotary; the upper layers may see a window only. Source: Yang et
// al., arXiv:2407.10671; Hugging Face Qwen2ForCausalLM; the GGUF architecture "qwen2".
#include "models/blocks.h"
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{.norm = NormKind::rms, .norm_eps = 1e-6, .activation = Activation::silu};

DecoderKeys keys_of(const Metadata& m) { return {m, "qwen2", kDefaults}; }

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = rotary_decoder_keys_from_hf(config, "qwen2", kDefaults);
  upper_windows_from_hf(config, keys);
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, head_dim_of(config));
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  TensorList list;
  list.add("token_embd", "embed_tokens", {c.n_vocab, c.d_model});
  list.add("output_norm", "norm", {c.d_model});
  list.add_output("lm_head", {c.n_vocab, c.d_model});
  list_rope_factors(list, c.rotary_dim);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("layers.{}.", i));
    list.add("attn_norm", "input_layernorm", {c.d_model});
    list_attention(list, c);
    list.add("ffn_norm", "post_attention_layernorm", {c.d_model});
    list_gated_mlp(list, c);
  }
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const std::vector<int64_t> windows = layer_windows(f.metadata, c);
  AttentionPlan attention = rotary_attention(f, c, Rotary::half);
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    attention.op.window = static_cast<int>(windows[static_cast<size_t>(i)]);
    x = sequential_mlp(f, i, x, norm_attention(f, i, x, c, attention).out, c);
  }
  return f.logits(x, NormKind::rms, c.norm_eps);
}

}  // namespace

extern const Architecture kQwen2;  // declared in all.cpp
const Architecture kQwen2{.name = "qwen2",
                          .hf_model_types = {"qwen2"},
                          .hf_prefix = "model.",
                          .from_hf = from_hf,
                          .derived_from_hf = derived_from_hf,
                          .shape = shape,
                          .tensors = tensors,
                          .forward = forward};

}  // namespace weft
