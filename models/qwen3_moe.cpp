// Qwen3 MoE: Qwen3's attention, experts chosen by softmax, their weights made to sum to 1. Some layers may have an
// ordinary MLP. Source: Yang et al., arXiv:2505.09388; Hugging Face Qwen3MoeForCausalLM; the GGUF architecture
// "qwen3moe".
#include "models/blocks.h"
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{.norm = NormKind::rms, .norm_eps = 1e-6, .activation = Activation::silu};
constexpr bool kWeightsNorm = true;  // where GGUF says nothing

struct Config : DecoderKeys {
  explicit Config(const Metadata& m) : DecoderKeys(m, "qwen3moe", kDefaults), experts(m, *this, kWeightsNorm) {}
  ExpertKeys experts;
};

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = rotary_decoder_keys_from_hf(config, "qwen3moe", kDefaults);
  config.boolean("attention_bias", false);  // the biases are there or not
  expert_keys_from_hf(config, kWeightsNorm, keys);
  // The window holds in every layer; the class does not read max_window_layers.
  const bool slides = config.boolean("use_sliding_window", false);
  const int64_t window = config.integer("sliding_window", slides ? 4096 : 0);
  config.has("max_window_layers");
  if (slides && window > 0) keys.size("attention.sliding_window", window);
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, head_dim_of(config));
}

ModelShape shape(const Metadata& m) { return Config(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const Config c(m);
  TensorList list;
  list.add("token_embd", "embed_tokens", {c.n_vocab, c.d_model});
  list.add("output_norm", "norm", {c.d_model});
  list.add_output("lm_head", {c.n_vocab, c.d_model});
  list_rope_factors(list, c.rotary_dim);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("layers.{}.", i));
    list.add("attn_norm", "input_layernorm", {c.d_model});
    list_attention(list, c);
    list.add("attn_q_norm", "self_attn.q_norm", {c.d_head});
    list.add("attn_k_norm", "self_attn.k_norm", {c.d_head});
    list.add("ffn_norm", "post_attention_layernorm", {c.d_model});
    if (c.experts.in_layer(i)) list_experts(list, c, c.experts);
    else list_gated_mlp(list, c);
  }
  return list.take();
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  const AttentionPlan attention = rotary_attention(f, c, Rotary::half);
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    const Value attended = norm_attention(f, i, x, c, attention).out;
    x = c.experts.in_layer(i) ? sequential_experts(f, i, x, attended, c, c.experts, {.activation = gated(c.activation)})
                              : sequential_mlp(f, i, x, attended, c);
  }
  return f.logits(x, NormKind::rms, c.norm_eps);
}

}  // namespace

extern const Architecture kQwen3Moe;  // declared in all.cpp
const Architecture kQwen3Moe{.name = "qwen3moe",
                             .hf_model_types = {"qwen3_moe"},
                             .hf_prefix = "model.",
                             .from_hf = from_hf,
                             .derived_from_hf = derived_from_hf,
                             .shape = shape,
                             .tensors = tensors,
                             .forward = forward};

}  // namespace weft
