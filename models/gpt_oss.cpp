// gpt-oss: attention with a sink for each head and a window in every other layer, yarn whose ramp is not rounded;
// experts with biases and a clamped gate. Source: OpenAI, arXiv:2508.10925; Hugging Face GptOssForCausalLM; the GGUF
// architecture "gpt-oss".
#include "models/blocks.h"
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{
    .norm = NormKind::rms, .norm_eps = 1e-5, .activation = Activation::silu, .theta = 150000, .yarn_truncate = false};
constexpr int64_t kHeadDim = 64;  // where config.json says nothing
constexpr int64_t kPeriod = 2;    // of windows

struct Config : DecoderKeys {
  explicit Config(const Metadata& m) : DecoderKeys(m, "gpt-oss", kDefaults), experts(m, *this) {
    require(experts.count > 0, "gpt-oss.expert_count is missing");
  }
  ExpertKeys experts;
};

/// The yarn that the class has where config.json says nothing of rotary embeddings.
void default_yarn(KeyWriter& keys) {
  keys.text("rope.scaling.type", "yarn");
  keys.real("rope.scaling.factor", 32);
  keys.size("rope.scaling.original_context_length", 4096);
}

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = rotary_decoder_keys_from_hf(config, "gpt-oss", kDefaults, kHeadDim);
  if (!config.has_any("rope_parameters.") && !config.has_any("rope_scaling.")) default_yarn(keys);
  config.boolean("attention_bias", true);  // the biases are there or not
  const auto n_layer = static_cast<int64_t>(layer_count(config));
  layer_windows_from_hf(config, config.integer("sliding_window", 128), periodic_windows(n_layer, kPeriod), kPeriod,
                        keys);
  keys.size("expert_count", config.integer({"num_local_experts", "num_experts"}));
  keys.size("expert_used_count", config.integer({"num_experts_per_tok", "experts_per_token"}));
  keys.size("expert_feed_forward_length", config.integer("intermediate_size"));
  config.require_value("swiglu_alpha", 1.702);  // moe_experts' own, as is
  config.require_value("swiglu_limit", 7);
  config.has("initial_context_length");  // original_max_position_embeddings says it
  if (config.has("quantization_config.quant_method")) {
    const std::string& method = config.text("quantization_config.quant_method");
    require(method == "mxfp4", "quantization_config.quant_method {} is not supported", method);
    config.has("quantization_config.modules_to_not_convert");  // the tensors' names tell
  }
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, config.integer("head_dim", kHeadDim));
}

ModelShape shape(const Metadata& m) { return Config(m).shape(); }

/// [experts, out, in] and its bias, from every `parts`-th output feature of the file's.
void list_interleaved(TensorList& list, std::string_view gguf, std::string_view hf, const Shape& shape, int64_t part,
                      int64_t parts) {
  TensorSpec& weight = list.add_named(fmt::format("{}.weight", gguf), hf, shape);
  weight.transform = Transform::expert_columns;
  weight.part = part;
  weight.parts = parts;
  TensorSpec& bias = list.add_named(fmt::format("{}.bias", gguf), fmt::format("{}_bias", hf), {shape[0], shape[1]});
  bias.transform = Transform::every_nth;
  bias.part = part;
  bias.parts = parts;
}

std::vector<TensorSpec> tensors(const Metadata& m) {
  const Config c(m);
  const ExpertKeys& e = c.experts;
  TensorList list;
  list.add("token_embd", "embed_tokens", {c.n_vocab, c.d_model});
  list.add("output_norm", "norm", {c.d_model});
  list.add_output("lm_head", {c.n_vocab, c.d_model});
  list_rope_factors(list, c.rotary_dim);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("layers.{}.", i));
    list.add("attn_norm", "input_layernorm", {c.d_model});
    list_attention(list, c);
    list.add_named("attn_sinks.weight", "self_attn.sinks", {c.n_head});
    list.add("post_attention_norm", "post_attention_layernorm", {c.d_model});
    list.add("ffn_gate_inp", "mlp.router", {e.count, c.d_model}, {.bias = Bias::required});
    list_interleaved(list, "ffn_gate_exps", "mlp.experts.gate_up_proj", {e.count, e.d_ff, c.d_model}, 0, 2);
    list_interleaved(list, "ffn_up_exps", "mlp.experts.gate_up_proj", {e.count, e.d_ff, c.d_model}, 1, 2);
    list_interleaved(list, "ffn_down_exps", "mlp.experts.down_proj", {e.count, c.d_model, e.d_ff}, 0, 1);
  }
  return list.take();
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  const std::vector<int64_t> windows = layer_windows(f.metadata, c, kPeriod);
  AttentionPlan attention = rotary_attention(f, c, Rotary::half);
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    attention.op.window = static_cast<int>(windows[static_cast<size_t>(i)]);
    x = sequential_experts(f, i, x, norm_attention(f, i, x, c, attention).out, c, c.experts,
                           {.gating = Gating::topk_softmax,
                            .activation = Activation::gated_swiglu_clamped,
                            .norm = "post_attention_norm"});
  }
  return f.logits(x, NormKind::rms, c.norm_eps);
}

}  // namespace

extern const Architecture kGptOss;  // declared in all.cpp
const Architecture kGptOss{.name = "gpt-oss",
                           .hf_model_types = {"gpt_oss"},
                           .hf_prefix = "model.",
                           .from_hf = from_hf,
                           .derived_from_hf = derived_from_hf,
                           .shape = shape,
                           .tensors = tensors,
                           .forward = forward};

}  // namespace weft
