// Llama and its kin: RMSNorm, rotary positions, grouped queries, gated MLP; Mistral adds a window, Mixtral experts.
// GGUF stores q and k rows so that rotary pairs are neighbours. Sources: Touvron et al., arXiv:2302.13971 and
// 2307.09288; Jiang et al., arXiv:2310.06825 and 2401.04088; the GGUF architecture "llama".
#include "models/blocks.h"
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{.norm = NormKind::rms, .norm_eps = 1e-6, .activation = Activation::silu};

struct Config : DecoderKeys {
  explicit Config(const Metadata& m) : DecoderKeys(m, "llama", kDefaults), experts(m, *this) {}
  ExpertKeys experts;
};

Metadata from_hf(const HfConfig& config) {
  const std::string& type = config.text("model_type");
  KeyWriter keys = rotary_decoder_keys_from_hf(config, "llama", kDefaults);
  config.boolean("attention_bias", false);  // the biases are there or not
  config.boolean("mlp_bias", false);
  const int64_t window = config.integer("sliding_window", 0);
  if (type != "llama" && window > 0) {
    require(!config.has("layer_types"), "layer_types is not supported");
    keys.size("attention.sliding_window", window);
  }
  if (type == "mixtral") {
    keys.size("expert_count", config.integer("num_local_experts"));
    keys.size("expert_used_count", config.integer("num_experts_per_tok"));
  }
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, head_dim_of(config));
}

ModelShape shape(const Metadata& m) { return Config(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const Config c(m);
  const int64_t d = c.d_model;
  TensorList list;
  list.add("token_embd", "embed_tokens", {c.n_vocab, d});
  list.add("output_norm", "norm", {d});
  list.add_output("lm_head", {c.n_vocab, d});
  list_rope_factors(list, c.rotary_dim);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("layers.{}.", i));
    list.add("attn_norm", "input_layernorm", {d});
    list_attention(list, c, Transform::rotary_pairs);
    list.add("ffn_norm", "post_attention_layernorm", {d});
    if (!c.experts.in_layer(i)) {
      list_gated_mlp(list, c);
    } else {
      constexpr std::string_view kOtherwise = "mlp.gate";  // transformers 5
      list.add("ffn_gate_inp", "block_sparse_moe.gate", {c.experts.count, d}, {.hf_otherwise = kOtherwise});
      list.add_gated_experts(
          {"block_sparse_moe.experts.{}.w1", "block_sparse_moe.experts.{}.w3", "block_sparse_moe.experts.{}.w2"},
          c.experts.count, c.experts.d_ff, d);
    }
  }
  return list.take();
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  const AttentionPlan attention = rotary_attention(f, c, Rotary::interleaved);
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

extern const Architecture kLlama;  // declared in all.cpp
const Architecture kLlama{.name = "llama",
                          .hf_model_types = {"llama", "mistral", "mixtral"},
                          .hf_prefix = "model.",
                          .from_hf = from_hf,
                          .derived_from_hf = derived_from_hf,
                          .shape = shape,
                          .tensors = tensors,
                          .forward = forward};

}  // namespace weft
