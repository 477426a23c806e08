#include "models/blocks.h"

#include <array>
#include <utility>

#include "graph/error.h"
#include "models/rope_scaling.h"

namespace weft {

Activation activation_from_hf(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Activation>, 8> kNames = {{
      {"gelu_new", Activation::gelu_tanh},
      {"gelu_fast", Activation::gelu_tanh},
      {"gelu_pytorch_tanh", Activation::gelu_tanh},
      {"gelu", Activation::gelu_erf},
      {"gelu_python", Activation::gelu_erf},
      {"relu", Activation::relu},
      {"silu", Activation::silu},
      {"swish", Activation::silu},
  }};
  for (const auto& [known, activation] : kNames) {
    if (known == name) return activation;
  }
  fail("config.json: the activation {} is not supported", name);
}

Activation gated(Activation activation) {
  switch (activation) {
    case Activation::gelu_tanh:
      return Activation::gated_gelu_tanh;
    case Activation::gelu_erf:
      return Activation::gated_gelu_erf;
    case Activation::relu:
      return Activation::gated_relu;
    case Activation::silu:
      return Activation::gated_silu;
    default:
      return activation;
  }
}

int64_t vocabulary_size(const Metadata& metadata, std::string_view arch) {
  const std::string key = fmt::format("{}.vocab_size", arch);
  return metadata.has(key) ? metadata.integer(key)
                           : static_cast<int64_t>(metadata.texts("tokenizer.ggml.tokens").size());
}

KeyWriter rotary_decoder_keys_from_hf(const HfConfig& config, std::string_view arch, const DecoderDefaults& defaults,
                                      int64_t d_head) {
  KeyWriter keys = decoder_keys_from_hf(config, arch, defaults);
  keys.size("attention.head_count_kv", config.integer({"num_key_value_heads", "num_attention_heads"}));
  if (d_head == 0 || config.has("head_dim")) d_head = head_dim_of(config);
  for (const char* key : {"attention.key_length", "attention.value_length", "rope.dimension_count"}) {
    keys.size(key, d_head);
  }
  rope_from_hf(config, keys, {.theta = defaults.theta, .yarn_truncate = defaults.yarn_truncate});
  require_whole_heads_rotate(config);
  return keys;
}

void list_attention(TensorList& list, const DecoderKeys& c, Transform q_and_k) {
  const auto rotating = [&](int64_t heads) {
    return TensorList::Options{.bias = Bias::optional, .transform = q_and_k, .heads = heads};
  };
  constexpr TensorList::Options plain{.bias = Bias::optional};
  list.add("attn_q", "self_attn.q_proj", {c.q_rows(), c.d_model}, rotating(c.n_head));
  list.add("attn_k", "self_attn.k_proj", {c.kv_rows(), c.d_model}, rotating(c.n_kv_head));
  list.add("attn_v", "self_attn.v_proj", {c.kv_rows(), c.d_model}, plain);
  list.add("attn_output", "self_attn.o_proj", {c.d_model, c.q_rows()}, plain);
}

void list_gated_mlp(TensorList& list, const DecoderKeys& c) {
  constexpr TensorList::Options maybe{.bias = Bias::optional};
  list.add("ffn_gate", "mlp.gate_proj", {c.d_ff, c.d_model}, maybe);
  list.add("ffn_up", "mlp.up_proj", {c.d_ff, c.d_model}, maybe);
  list.add("ffn_down", "mlp.down_proj", {c.d_model, c.d_ff}, maybe);
}

void list_experts(TensorList& list, const DecoderKeys& c, const ExpertKeys& experts) {
  list.add("ffn_gate_inp", "mlp.gate", {experts.count, c.d_model});
  list.add_gated_experts({"mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj", "mlp.experts.{}.down_proj"},
                         experts.count, experts.d_ff, c.d_model);
}

}  // namespace weft
