// Gemma 2: Gemma with norms after each half layer too, soft caps on scores and logits, and a window in every other
// layer. Source: Gemma Team, arXiv:2408.00118; Hugging Face Gemma2ForCausalLM; the GGUF architecture "gemma2".
#include <cmath>

#include "models/blocks.h"
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{.norm = NormKind::rms, .norm_eps = 1e-6, .activation = Activation::gelu_tanh};
constexpr int64_t kHeadDim = 256;  // where config.json says nothing
constexpr int64_t kPeriod = 2;     // of windows
constexpr int64_t kLayersOf27B = 46;

/// What stands under the root that divides scores, where GGUF does not say: other programs know the 27B by its layers.
double score_divisor(int64_t n_layer, int64_t d_model, int64_t n_head, int64_t d_head) {
  return static_cast<double>(n_layer == kLayersOf27B ? d_model / n_head : d_head);
}

struct Config : DecoderKeys {
  explicit Config(const Metadata& m) : DecoderKeys(m, "gemma2", kDefaults) {
    if (!m.has("gemma2.attention.scale")) {
      scale = static_cast<float>(1 / std::sqrt(score_divisor(n_layer, d_model, n_head, d_head)));
    }
    if (!m.has("gemma2.attention.sliding_window")) window = 4096;
    score_cap = static_cast<float>(m.real("gemma2.attn_logit_softcapping", 50));
    logit_cap = static_cast<float>(m.real("gemma2.final_logit_softcapping", 30));
  }
  float score_cap, logit_cap;
};

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = rotary_decoder_keys_from_hf(config, "gemma2", kDefaults, kHeadDim);
  config.boolean("attention_bias", false);  // the biases are there or not
  config.require_off("use_bidirectional_attention");
  const auto n_layer = static_cast<int64_t>(layer_count(config));
  layer_windows_from_hf(config, config.integer("sliding_window", 0), periodic_windows(n_layer, kPeriod), kPeriod, keys);
  keys.real("attn_logit_softcapping", config.real("attn_logit_softcapping", 0));  // 0: off, as null is
  keys.real("final_logit_softcapping", config.real("final_logit_softcapping", 0));
  const double divisor = config.real("query_pre_attn_scalar", 256);
  require(divisor > 0, "query_pre_attn_scalar is {}", divisor);
  const Config c(keys.metadata);
  if (divisor != score_divisor(c.n_layer, c.d_model, c.n_head, c.d_head)) {
    keys.real("attention.scale", 1 / std::sqrt(divisor));
  }
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, config.integer("head_dim", kHeadDim));
}

ModelShape shape(const Metadata& m) { return Config(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const Config c(m);
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
    list.add("post_attention_norm", "post_attention_layernorm", {c.d_model}, gain);
    list.add("ffn_norm", "pre_feedforward_layernorm", {c.d_model}, gain);
    list_gated_mlp(list, c);
    list.add("post_ffw_norm", "post_feedforward_layernorm", {c.d_model}, gain);
  }
  return list.take();
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  const std::vector<int64_t> windows = layer_windows(f.metadata, c, kPeriod);
  AttentionPlan attention = rotary_attention(f, c, Rotary::half);
  attention.op.softcap = c.score_cap;
  const auto scale = std::sqrt(static_cast<float>(c.d_model));
  Value x = f.graph.add(Embedding{.scale = scale}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    attention.op.window = static_cast<int>(windows[static_cast<size_t>(i)]);
    x = sandwich_layer(f, i, x, c, attention);
  }
  return soft_capped(f.logits(x, NormKind::rms, c.norm_eps), c.logit_cap);
}

}  // namespace

extern const Architecture kGemma2;  // declared in all.cpp
const Architecture kGemma2{.name = "gemma2",
                           .hf_model_types = {"gemma2"},
                           .hf_prefix = "model.",
                           .from_hf = from_hf,
                           .derived_from_hf = derived_from_hf,
                           .shape = shape,
                           .tensors = tensors,
                           .forward = forward};

}  // namespace weft
