// Qwen2 MoE: Qwen2's attention; experts chosen by softmax, their weights as they come, beside a shared expert that
// every token goes through. Some layers may have an ordinary MLP. Source: Qwen Team, "Qwen1.5-MoE", 2024; Hugging Face
// Qwen2MoeForCausalLM; the GGUF architecture "qwen2moe".
#include "models/blocks.h"
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{.norm = NormKind::rms, .norm_eps = 1e-6, .activation = Activation::silu};
constexpr bool kWeightsNorm = false;  // where GGUF says nothing

struct Config : DecoderKeys {
  explicit Config(const Metadata& m) : DecoderKeys(m, "qwen2moe", kDefaults), experts(m, *this, kWeightsNorm) {
    d_ff_shared = m.integer("qwen2moe.expert_shared_feed_forward_length", d_ff);
    require(d_ff_shared > 0 && d_ff_shared <= INT32_MAX, "the width of the shared expert is {}", d_ff_shared);
  }
  ExpertKeys experts;
  int64_t d_ff_shared;
};

/// Every other of the lower layers slides, unless layer_types says otherwise.
void windows_from_hf(const HfConfig& config, KeyWriter& keys) {
  const bool slides = config.boolean("use_sliding_window", false);
  const int64_t stated = config.integer("sliding_window", slides ? 4096 : 0);
  const int64_t lower = config.integer("max_window_layers", 28);
  std::vector<bool> flags(layer_count(config));
  for (size_t i = 0; i < flags.size(); ++i) flags[i] = slides && i % 2 == 0 && static_cast<int64_t>(i) < lower;
  layer_windows_from_hf(config, slides ? stated : 0, flags, 0, keys);
}

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = rotary_decoder_keys_from_hf(config, "qwen2moe", kDefaults);
  config.boolean("qkv_bias", true);  // the biases are there or not
  expert_keys_from_hf(config, kWeightsNorm, keys);
  keys.size("expert_shared_feed_forward_length", config.integer("shared_expert_intermediate_size"));
  windows_from_hf(config, keys);
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
    list.add("ffn_norm", "post_attention_layernorm", {c.d_model});
    if (!c.experts.in_layer(i)) {
      list_gated_mlp(list, c);
      continue;
    }
    list_experts(list, c, c.experts);
    list.add("ffn_gate_inp_shexp", "mlp.shared_expert_gate", {1, c.d_model});
    list.add("ffn_gate_shexp", "mlp.shared_expert.gate_proj", {c.d_ff_shared, c.d_model});
    list.add("ffn_up_shexp", "mlp.shared_expert.up_proj", {c.d_ff_shared, c.d_model});
    list.add("ffn_down_shexp", "mlp.shared_expert.down_proj", {c.d_model, c.d_ff_shared});
  }
  return list.take();
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  const std::vector<int64_t> windows = layer_windows(f.metadata, c);
  AttentionPlan attention = rotary_attention(f, c, Rotary::half);
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    attention.op.window = static_cast<int>(windows[static_cast<size_t>(i)]);
    const Value attended = norm_attention(f, i, x, c, attention).out;
    x = c.experts.in_layer(i) ? sequential_experts(f, i, x, attended, c, c.experts, {.activation = gated(c.activation)})
                              : sequential_mlp(f, i, x, attended, c);
  }
  return f.logits(x, NormKind::rms, c.norm_eps);
}

}  // namespace

extern const Architecture kQwen2Moe;  // declared in all.cpp
const Architecture kQwen2Moe{.name = "qwen2moe",
                             .hf_model_types = {"qwen2_moe"},
                             .hf_prefix = "model.",
                             .from_hf = from_hf,
                             .derived_from_hf = derived_from_hf,
                             .shape = shape,
                             .tensors = tensors,
                             .forward = forward};

}  // namespace weft
