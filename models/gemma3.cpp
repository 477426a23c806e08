// Gemma 3, text: Gemma 2 with RMSNorm of each head of q and k in place of the score cap; every sixth layer sees
// everything, and has a rotary base and scaling of its own. Source: Gemma Team, arXiv:2503.19786; Hugging Face
// Gemma3ForCausalLM; the GGUF architecture "gemma3".
#include <cmath>

#include "models/blocks.h"
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{
    .norm = NormKind::rms, .norm_eps = 1e-6, .activation = Activation::gelu_tanh, .theta = 1e6};
constexpr int64_t kHeadDim = 256;  // where config.json says nothing
constexpr int64_t kPeriod = 6;     // of windows
constexpr int64_t kLayersOf27B = 62;
constexpr double kLocalTheta = 10000;

/// What stands under the root that divides scores, where GGUF does not say: other programs know the 27B by its layers.
double score_divisor(int64_t n_layer, int64_t d_model, int64_t n_head, int64_t d_head) {
  return static_cast<double>(n_layer == kLayersOf27B ? d_model / n_head : d_head);
}

struct Config : DecoderKeys {
  explicit Config(const Metadata& m) : DecoderKeys(m, "gemma3", kDefaults) {
    if (!m.has("gemma3.attention.scale")) {
      scale = static_cast<float>(1 / std::sqrt(score_divisor(n_layer, d_model, n_head, d_head)));
    }
    local_theta = static_cast<float>(m.real("gemma3.rope.freq_base_swa", kLocalTheta));
    logit_cap = static_cast<float>(m.real("gemma3.final_logit_softcapping", 0));
  }
  float local_theta, logit_cap;
};

/// Which layers slide, where layer_types does not say.
std::vector<bool> default_windows(const HfConfig& config) {
  const int64_t period = config.integer("sliding_window_pattern", kPeriod);
  require(period > 0, "sliding_window_pattern is {}", period);
  return periodic_windows(static_cast<int64_t>(layer_count(config)), period);
}

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = rotary_decoder_keys_from_hf(config, "gemma3", kDefaults, kHeadDim);
  const std::string local = "rope_parameters.sliding_attention.";
  const std::string type = config.text(local + "rope_type", "default");
  require(type == "default", "{}rope_type {} is not supported", local, type);
  const double local_theta = config.real({local + "rope_theta", "rope_local_base_freq"}, kLocalTheta);
  if (local_theta != kLocalTheta) keys.real("rope.freq_base_swa", local_theta);
  config.boolean("attention_bias", false);  // the biases are there or not
  config.require_off("use_bidirectional_attention");
  config.has("attn_logit_softcapping");  // the class has the field and does not use it
  layer_windows_from_hf(config, config.integer("sliding_window", 0), default_windows(config), kPeriod, keys);
  if (const double cap = config.real("final_logit_softcapping", 0); cap != 0) keys.real("final_logit_softcapping", cap);
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
    list.add("attn_q_norm", "self_attn.q_norm", {c.d_head}, gain);
    list.add("attn_k_norm", "self_attn.k_norm", {c.d_head}, gain);
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
  const AttentionPlan global = rotary_attention(f, c, Rotary::half);
  AttentionPlan local{.op = global.op, .rope_factors = {}};
  local.op.rope_theta = c.local_theta;
  local.op.rope_attn_scale = 1;
  const auto scale = std::sqrt(static_cast<float>(c.d_model));
  Value x = f.graph.add(Embedding{.scale = scale}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    const int64_t window = windows[static_cast<size_t>(i)];
    AttentionPlan attention = window > 0 ? local : global;
    attention.op.window = static_cast<int>(window);
    x = sandwich_layer(f, i, x, c, attention);
  }
  return soft_capped(f.logits(x, NormKind::rms, c.norm_eps), c.logit_cap);
}

}  // namespace

extern const Architecture kGemma3;  // declared in all.cpp
const Architecture kGemma3{.name = "gemma3",
                           .hf_model_types = {"gemma3_text"},
                           .hf_prefix = "model.",
                           .from_hf = from_hf,
                           .derived_from_hf = derived_from_hf,
                           .shape = shape,
                           .tensors = tensors,
                           .forward = forward};

}  // namespace weft
