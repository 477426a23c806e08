// StableLM: LayerNorm and a gated SiLU MLP around half-split partial rotary attention; the 12B model has parallel
// layers and a LayerNorm for each query and key head. A file may say stablelm.use_parallel_residual of sequential
// layers too: those that have ffn_norm are sequential. Sources: Bellagente et al., arXiv:2402.17834; Hugging Face
// StableLmForCausalLM; the GGUF architecture of the same name.
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr std::string_view kParallelKey = "use_parallel_residual";
constexpr std::string_view kHeadNormKey = "attention.qk_layernorm";  // weft's own: the head norms are not optional
constexpr int64_t kMostHeadNorms = 1 << 17;  // of all layers: a file that says more is not a model
constexpr DecoderDefaults kDefaults{.norm = NormKind::layer, .activation = Activation::silu};

DecoderKeys keys_of(const Metadata& m) { return {m, "stablelm", kDefaults}; }

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "stablelm", kDefaults);
  keys.size("attention.head_count_kv", config.integer("num_key_value_heads", 32));
  rotary_dim_from_hf(config, {"rope_parameters.partial_rotary_factor", "partial_rotary_factor"}, 0.25, keys);
  rope_from_hf(config, keys);
  keys.flag(kParallelKey, config.boolean(kParallelKey, false));
  if (config.boolean("qk_layernorm", false)) keys.flag(kHeadNormKey, true);
  config.boolean("use_qkv_bias", false);  // the biases are there or not
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, from_hf(config).integer("stablelm.rope.dimension_count"));
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  const bool parallel = m.boolean(fmt::format("stablelm.{}", kParallelKey), false);
  const bool has_head_norms = m.boolean(fmt::format("stablelm.{}", kHeadNormKey), false);
  require(!has_head_norms || c.n_head <= kMostHeadNorms / c.n_layer,
          "stablelm: {} layers of {} head norms are too many", c.n_layer, c.n_head);
  const int64_t d = c.d_model;
  constexpr TensorList::Options biased{.bias = Bias::required}, maybe{.bias = Bias::optional};
  TensorList list;
  list.add("token_embd", "embed_tokens", {c.n_vocab, d});
  list_rope_factors(list, c.rotary_dim);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("layers.{}.", i));
    list.add("attn_norm", "input_layernorm", {d}, biased);
    list.add("attn_q", "self_attn.q_proj", {c.q_rows(), d}, maybe);
    list.add("attn_k", "self_attn.k_proj", {c.kv_rows(), d}, maybe);
    list.add("attn_v", "self_attn.v_proj", {c.kv_rows(), d}, maybe);
    list.add_per_head("attn_q_norm", "self_attn.q_layernorm.norms.{}", c.n_head, c.d_head, has_head_norms);
    list.add_per_head("attn_k_norm", "self_attn.k_layernorm.norms.{}", c.n_kv_head, c.d_head, has_head_norms);
    list.add("attn_output", "self_attn.o_proj", {d, c.q_rows()});
    list.add("ffn_norm", "post_attention_layernorm", {d},
             {.bias = Bias::required, .required = !parallel, .gguf_only = parallel});
    list.add("ffn_gate", "mlp.gate_proj", {c.d_ff, d});
    list.add("ffn_up", "mlp.up_proj", {c.d_ff, d});
    list.add("ffn_down", "mlp.down_proj", {d, c.d_ff});
  }
  list.end_layers();
  list.add("output_norm", "norm", {d}, biased);
  list.add_output("lm_head", {c.n_vocab, d});
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const AttentionPlan plan = rotary_attention(f, c, Rotary::half);
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    const auto [attention, h] = norm_attention(f, i, x, c, plan);
    x = f.block_weight(i, "ffn_norm.weight") ? sequential_mlp(f, i, x, attention, c)
                                             : parallel_mlp(f, i, x, attention, h, c);
  }
  return f.logits(x, c.norm, c.norm_eps);
}

}  // namespace

extern const Architecture kStableLm;  // declared in all.cpp
const Architecture kStableLm{.name = "stablelm",
                             .hf_model_types = {"stablelm"},
                             .hf_prefix = "model.",
                             .from_hf = from_hf,
                             .derived_from_hf = derived_from_hf,
                             .shape = shape,
                             .tensors = tensors,
                             .forward = forward};

}  // namespace weft
