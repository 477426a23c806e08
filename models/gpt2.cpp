// GPT-2: learned positions, pre-norm layers, tanh GELU, every matrix with a bias.
// Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; Hugging Face GPT2LMHeadModel;
// the GGUF architecture of the same name.
#include "models/layers.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr std::string_view kInverseLayerKey = "attention.scale_by_inverse_layer_index";  // weft's own; default false
constexpr DecoderDefaults kDefaults{
    .norm = NormKind::layer, .activation = Activation::gelu_tanh, .d_ff_per_d_model = 4};

DecoderKeys keys_of(const Metadata& m) { return {m, "gpt2", kDefaults}; }

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "gpt2", kDefaults);
  if (!config.boolean("scale_attn_weights", true)) keys.real("attention.scale", 1);
  if (config.boolean("scale_attn_by_inverse_layer_idx", false)) keys.flag(kInverseLayerKey, true);
  config.require_off("add_cross_attention");
  return keys.metadata;
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  const int64_t d = c.d_model;
  constexpr TensorList::Options norm{.bias = Bias::required};
  constexpr TensorList::Options conv1d{.bias = Bias::required, .transform = Transform::transpose};
  TensorList list;
  list.add("token_embd", "wte", {c.n_vocab, d});
  list.add("position_embd", "wpe", {c.context, d});
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("h.{}.", i));
    list.add("attn_norm", "ln_1", {d}, norm);
    list.add("attn_qkv", "attn.c_attn", {3 * d, d}, conv1d);
    list.add("attn_output", "attn.c_proj", {d, d}, conv1d);
    list.add("ffn_norm", "ln_2", {d}, norm);
    list.add("ffn_up", "mlp.c_fc", {c.d_ff, d}, conv1d);
    list.add("ffn_down", "mlp.c_proj", {d, c.d_ff}, conv1d);
  }
  list.end_layers();
  list.add("output_norm", "ln_f", {d}, norm);
  list.add_output("lm_head", {c.n_vocab, d}).hf_otherwise = "wte.weight";  // GGUF programs want it written out
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const bool by_layer = f.metadata.boolean(fmt::format("gpt2.{}", kInverseLayerKey), false);
  Value x = f.graph.add(Embedding{},
                        {f.ids, f.weight("token_embd.weight"), f.positions, f.weight("position_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    AttentionPlan plan{c.attention()};
    if (by_layer) plan.op.scale /= static_cast<float>(i + 1);
    x = sequential_mlp(f, i, x, norm_attention(f, i, x, c, plan).out, c);
  }
  return f.logits(x, c.norm, c.norm_eps);
}

}  // namespace

extern const Architecture kGpt2;  // declared in all.cpp
const Architecture kGpt2{.name = "gpt2",
                         .hf_model_types = {"gpt2"},
                         .hf_prefix = "transformer.",
                         .from_hf = from_hf,
                         .derived_from_hf = nullptr,
                         .shape = shape,
                         .tensors = tensors,
                         .forward = forward};

}  // namespace weft
