// Granite: Llama with multipliers: of the embeddings, of the scores, of what each half layer adds, and one that divides
// the logits. q and k rows as in Llama's files. Source: Granite Team, "Granite 3.0 Language Models", 2024; Hugging Face
// GraniteForCausalLM; the GGUF architecture "granite".
#include <cmath>

#include "models/blocks.h"
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "ops/embedding.h"
#include "ops/mlp_gemm.h"
#include "ops/residual_add.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{.norm = NormKind::rms, .norm_eps = 1e-6, .activation = Activation::silu};

struct Config : DecoderKeys {
  explicit Config(const Metadata& m) : DecoderKeys(m, "granite", kDefaults) {
    const auto multiplier = [&](std::string_view key) {
      const double value = m.real(fmt::format("granite.{}", key), 1.0);
      require(std::isfinite(value) && value != 0, "granite.{} is {}", key, value);
      return static_cast<float>(value);
    };
    embedding = multiplier("embedding_scale");
    residual = multiplier("residual_scale");
    logit_divisor = multiplier("logit_scale");
  }
  float embedding, residual, logit_divisor;
};

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = rotary_decoder_keys_from_hf(config, "granite", kDefaults);
  config.boolean("attention_bias", false);  // the biases are there or not
  config.boolean("mlp_bias", false);
  keys.real("attention.scale", config.real("attention_multiplier", 1));
  keys.real("embedding_scale", config.real("embedding_multiplier", 1));
  keys.real("residual_scale", config.real("residual_multiplier", 1));
  keys.real("logit_scale", config.real("logits_scaling", 1));
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
    list_attention(list, c, Transform::rotary_pairs);
    list.add("ffn_norm", "post_attention_layernorm", {c.d_model});
    list_gated_mlp(list, c);
  }
  return list.take();
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  Graph& g = f.graph;
  const AttentionPlan attention = rotary_attention(f, c, Rotary::interleaved);
  Value x = g.add(Embedding{.scale = c.embedding}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(g, fmt::format("blk.{}", i));
    const auto w = [&](std::string_view name) { return f.block_weight(i, name); };
    const auto added = [&](Value half, std::string_view bias) { return mul(biased(half, w(bias)), c.residual); };
    const Value attended = added(norm_attention(f, i, x, c, attention).out, "attn_output.bias");
    const auto [activation, in] = mlp_blocks(f, i, c);
    const auto mlp = g.add(MlpGemm{.norm = NormKind::rms, .eps = c.norm_eps, .activation = activation},
                           {attended, x, {}, w("ffn_norm.weight"), {}, in.weights, in.biases, w("ffn_down.weight")});
    x = g.add(ResidualAdd{}, {added(mlp[0], "ffn_down.bias"), mlp[1]})[0];
  }
  const Value logits = f.logits(x, NormKind::rms, c.norm_eps);
  return c.logit_divisor == 1 ? logits : div(logits, c.logit_divisor);
}

}  // namespace

extern const Architecture kGranite;  // declared in all.cpp
const Architecture kGranite{.name = "granite",
                            .hf_model_types = {"granite"},
                            .hf_prefix = "model.",
                            .from_hf = from_hf,
                            .derived_from_hf = derived_from_hf,
                            .shape = shape,
                            .tensors = tensors,
                            .forward = forward};

}  // namespace weft
