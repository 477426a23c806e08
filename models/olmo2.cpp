// OLMo 2: attention and MLP read the residual stream as it is and are normalized before they are added to it; RMSNorm
// of the whole rows of q and k; half-split rotary. Source: OLMo Team, arXiv:2501.00656; Hugging Face Olmo2ForCausalLM;
// the GGUF architecture "olmo2".
#include "models/blocks.h"
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"
#include "ops/gelu_gemm.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{.norm = NormKind::rms, .norm_eps = 1e-5, .activation = Activation::silu};

DecoderKeys keys_of(const Metadata& m) { return {m, "olmo2", kDefaults}; }

Metadata from_hf(const HfConfig& config) {
  const KeyWriter keys = rotary_decoder_keys_from_hf(config, "olmo2", kDefaults);
  config.boolean("attention_bias", false);  // the biases are there or not
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, head_dim_of(config));
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  TensorList list;
  list.add("token_embd", "embed_tokens", {c.n_vocab, c.d_model});
  list.add("output_norm", "norm", {c.d_model});
  list.add_output("lm_head", {c.n_vocab, c.d_model});
  list_rope_factors(list, c.rotary_dim);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("layers.{}.", i));
    list_attention(list, c);
    list.add("attn_q_norm", "self_attn.q_norm", {c.q_rows()});
    list.add("attn_k_norm", "self_attn.k_norm", {c.kv_rows()});
    list.add("post_attention_norm", "post_attention_layernorm", {c.d_model});
    list_gated_mlp(list, c);
    list.add("post_ffw_norm", "post_feedforward_layernorm", {c.d_model});
  }
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const std::vector<int64_t> windows = layer_windows(f.metadata, c);
  AttentionPlan attention = rotary_attention(f, c, Rotary::half);
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    const auto w = [&](std::string_view name) { return f.block_weight(i, name); };
    attention.op.window = static_cast<int>(windows[static_cast<size_t>(i)]);
    const auto qkv = f.row_blocks(i, {"attn_q", "attn_k", "attn_v"});
    const Value attended =
        biased(attend(f, i, linear(x, qkv.weights, qkv.biases), c, attention), w("attn_output.bias"));
    x = add(x, rms_norm(attended, w("post_attention_norm.weight"), c.norm_eps));
    const auto [activation, in] = mlp_blocks(f, i, c);
    const Value mlp =
        biased(gelu_gemm(activation, x, in.weights, in.biases, {w("ffn_down.weight")}), w("ffn_down.bias"));
    x = add(x, rms_norm(mlp, w("post_ffw_norm.weight"), c.norm_eps));
  }
  return f.logits(x, NormKind::rms, c.norm_eps);
}

}  // namespace

extern const Architecture kOlmo2;  // declared in all.cpp
const Architecture kOlmo2{.name = "olmo2",
                          .hf_model_types = {"olmo2"},
                          .hf_prefix = "model.",
                          .from_hf = from_hf,
                          .derived_from_hf = derived_from_hf,
                          .shape = shape,
                          .tensors = tensors,
                          .forward = forward};

}  // namespace weft
