// Phi-3 and Phi-4: Llama with one matrix for q, k, v and one for gate, up; half-split rotary of a part of the head,
// stretched by LongRoPE. GGUF keeps the two fused: ffn_up holds the rows of gate, then those of up. Source: Abdin et
// al., arXiv:2404.14219; Hugging Face Phi3ForCausalLM; the GGUF architecture "phi3".
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{.norm = NormKind::rms, .norm_eps = 1e-5, .activation = Activation::silu};
constexpr std::string_view kWindowKey = "phi3.attention.sliding_window";

struct Config : DecoderKeys {
  explicit Config(const Metadata& m) : DecoderKeys(m, "phi3", kDefaults) {
    // Files from before the key: Phi-3 mini and medium of 4k tokens have a window.
    if (!m.has(kWindowKey) && context == 4096 && (n_layer == 32 || n_layer == 40)) window = 2047;
  }
};

int64_t rotary_dim_of(const HfConfig& config) {
  const double part = config.real(
      {"rope_parameters.partial_rotary_factor", "rope_scaling.partial_rotary_factor", "partial_rotary_factor"}, 1.0);
  require(part > 0 && part <= 1, "partial_rotary_factor is {}, expected up to 1", part);
  return static_cast<int64_t>(static_cast<double>(head_dim_of(config)) * part);
}

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "phi3", kDefaults);
  keys.size("attention.head_count_kv", config.integer({"num_key_value_heads", "num_attention_heads"}));
  keys.size("rope.dimension_count", rotary_dim_of(config));
  rope_from_hf(config, keys, {.original_context = config.integer("original_max_position_embeddings", 4096)});
  const int64_t window = config.integer("sliding_window", 0);
  require(window >= 0 && window <= INT32_MAX, "sliding_window is {}", window);
  keys.metadata.set(kWindowKey, static_cast<uint32_t>(window));  // 0, too, or programs guess one
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, rotary_dim_of(config));
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
    list.add("attn_qkv", "self_attn.qkv_proj", {c.q_rows() + 2 * c.kv_rows(), c.d_model});
    list.add("attn_output", "self_attn.o_proj", {c.d_model, c.q_rows()});
    list.add("ffn_norm", "post_attention_layernorm", {c.d_model});
    list.add("ffn_up", "mlp.gate_up_proj", {2 * c.d_ff, c.d_model});
    list.add("ffn_down", "mlp.down_proj", {c.d_model, c.d_ff});
  }
  return list.take();
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  const AttentionPlan attention = rotary_attention(f, c, Rotary::half);
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    x = sequential_mlp(f, i, x, norm_attention(f, i, x, c, attention).out, c);
  }
  return f.logits(x, NormKind::rms, c.norm_eps);
}

}  // namespace

extern const Architecture kPhi3;  // declared in all.cpp
const Architecture kPhi3{.name = "phi3",
                         .hf_model_types = {"phi3"},
                         .hf_prefix = "model.",
                         .from_hf = from_hf,
                         .derived_from_hf = derived_from_hf,
                         .shape = shape,
                         .tensors = tensors,
                         .forward = forward};

}  // namespace weft
