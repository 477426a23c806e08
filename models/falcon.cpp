// Falcon: the 7B model (one kv head, parallel layers under one norm), the new decoder of 11B to 180B (kv groups, one
// norm or two), Falcon-RW (ALiBi, sequential layers). GGUF holds q, k and v one after the other, Hugging Face by kv
// head; with two norms GGUF calls the MLP's attn_norm and the attention's attn_norm_2. Weft's own keys, for what other
// programs do not run: falcon.use_parallel_residual (default true) and falcon.attention.alibi (default false); the
// sequential layer's second norm is ffn_norm. GELU is the erf form, as the models were trained, where other programs
// run tanh. Falcon's ALiBi is added before scores are scaled; Hugging Face rounds slopes and products to bf16, which is
// the same up to 8 heads and 256 tokens; beyond, weft keeps them in f32, as the models were trained: a difference of up
// to 2^-8 of a bias, by design. Sources: Almazrouei et al., arXiv:2311.16867; Hugging Face FalconForCausalLM; the GGUF
// architecture of the same name.
#include "models/layers.h"
#include "models/rope_scaling.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{
    .norm = NormKind::layer, .activation = Activation::gelu_erf, .d_ff_per_d_model = 4, .context = 2048};

struct Config : DecoderKeys {
  explicit Config(const Metadata& m) : DecoderKeys(m, "falcon", kDefaults) {
    parallel = m.boolean("falcon.use_parallel_residual", true);
    alibi = m.boolean("falcon.attention.alibi", false);
  }
  bool parallel, alibi;
};

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "falcon", kDefaults);
  const bool grouped = config.boolean("new_decoder_architecture", false);
  const bool multi_query = config.boolean("multi_query", true), parallel = config.boolean("parallel_attn", true);
  const int64_t n_head = keys.metadata.integer("falcon.attention.head_count");
  const int64_t n_kv = config.integer("num_kv_heads", n_head);
  require(grouped || multi_query || n_kv == n_head,
          "num_kv_heads = {} is not supported without multi_query and new_decoder_architecture", n_kv);
  keys.size("attention.head_count_kv", !grouped && multi_query ? 1 : n_kv);
  require(parallel || !grouped, "parallel_attn = false is not supported with new_decoder_architecture");
  const int64_t norms = config.integer("num_ln_in_parallel_attn", grouped ? 2 : 1);
  require(norms == 1 || (norms == 2 && (grouped || !parallel)), "num_ln_in_parallel_attn = {} is not supported", norms);
  keys.text("tensor_data_layout", "jploski");  // q, k and v one after the other
  if (!parallel) keys.flag("use_parallel_residual", false);
  config.boolean("bias", false);  // the biases are there or not
  config.has("ff_factor");        // ffn_hidden_size says it
  if (config.boolean("alibi", false)) keys.flag("attention.alibi", true);
  rope_from_hf(config, keys);
  require_whole_heads_rotate(config);
  return keys.metadata;
}

std::vector<DerivedTensor> derived_from_hf(const HfConfig& config) {
  return rope_factor_tensors(config, head_dim_of(config));
}

ModelShape shape(const Metadata& m) { return Config(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const Config c(m);
  const int64_t d = c.d_model;
  constexpr TensorList::Options biased{.bias = Bias::required}, maybe{.bias = Bias::optional};
  TensorList::Options qkv = maybe;
  if (c.n_kv_head > 1) qkv = {Bias::optional, Transform::split_qkv, c.n_head, c.n_kv_head};
  TensorList list;
  list.add("token_embd", "word_embeddings", {c.n_vocab, d});
  list_rope_factors(list, c.rotary_dim);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("h.{}.", i));
    list.add("attn_norm", "input_layernorm", {d}, {.bias = Bias::required, .hf_otherwise = "ln_mlp"});
    list.add("attn_norm_2", "ln_attn", {d}, {.bias = Bias::required, .required = false});
    list.add("attn_qkv", "self_attention.query_key_value", {c.q_rows() + 2 * c.kv_rows(), d}, qkv);
    list.add("attn_output", "self_attention.dense", {d, c.q_rows()}, maybe);
    if (!c.parallel) list.add("ffn_norm", "post_attention_layernorm", {d}, biased);
    list.add("ffn_up", "mlp.dense_h_to_4h", {c.d_ff, d}, maybe);
    list.add("ffn_down", "mlp.dense_4h_to_h", {d, c.d_ff}, maybe);
  }
  list.end_layers();
  list.add("output_norm", "ln_f", {d}, biased);
  list.add_output("lm_head", {c.n_vocab, d});
  return list.take();
}

AttentionPlan attention_plan(Forward& f, const Config& c) {
  if (!c.alibi) return rotary_attention(f, c, Rotary::half);
  AttentionPlan plan{c.attention()};
  plan.op.alibi = true;
  plan.op.alibi_scale = plan.op.scale;
  return plan;
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  const AttentionPlan plan = attention_plan(f, c);
  Value x = f.graph.add(Embedding{}, {f.ids, f.weight("token_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    if (!c.parallel) {
      x = sequential_mlp(f, i, x, norm_attention(f, i, x, c, plan).out, c);
    } else if (f.block_weight(i, "attn_norm_2.weight")) {
      const Value h = normed(f, x, c, fmt::format("blk.{}.attn_norm", i));
      x = parallel_mlp(f, i, x, norm_attention(f, i, x, c, plan, "attn_norm_2").out, h, c);
    } else {
      const Attended attended = norm_attention(f, i, x, c, plan);
      x = parallel_mlp(f, i, x, attended.out, attended.norm, c);
    }
  }
  return f.logits(x, c.norm, c.norm_eps);
}

}  // namespace

extern const Architecture kFalcon;  // declared in all.cpp
const Architecture kFalcon{.name = "falcon",
                           .hf_model_types = {"falcon"},
                           .hf_prefix = "transformer.",
                           .from_hf = from_hf,
                           .derived_from_hf = derived_from_hf,
                           .shape = shape,
                           .tensors = tensors,
                           .forward = forward};

}  // namespace weft
