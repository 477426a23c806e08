// OPT: learned positions whose table begins with two rows that no token uses, ReLU; the 350M model alone has its norms
// after attention and MLP, none at the end, and embeddings narrower than the layers. No other GGUF program runs it:
// names and keys follow GGUF's habits. opt.do_layer_norm_before and opt.layer_norm_elementwise_affine (default true)
// and opt.remove_final_layer_norm (default false) are those of config.json; opt.word_embedding_length (default: the
// width) is its word_embed_proj_dim, token_embd_proj and output_proj lead from that width and back. ffn_norm stands
// before the MLP in both orders; a post-norm layer has no attn_norm and ends in layer_output_norm. position_embd keeps
// its two first rows. Sources: Zhang et al., arXiv:2205.01068; Hugging Face OPTForCausalLM.
#include "models/layers.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"
#include "ops/indexing.h"
#include "ops/linear.h"
#include "ops/quant/f32.h"

namespace weft {
namespace {

constexpr int kPositionOffset = 2;
constexpr DecoderDefaults kDefaults{.norm = NormKind::layer, .activation = Activation::relu};

struct Config : DecoderKeys {
  explicit Config(const Metadata& m) : DecoderKeys(m, "opt", kDefaults) {
    pre_norm = m.boolean("opt.do_layer_norm_before", true);
    final_norm = pre_norm && !m.boolean("opt.remove_final_layer_norm", false);
    affine = m.boolean("opt.layer_norm_elementwise_affine", true);
    d_embed = m.integer("opt.word_embedding_length", d_model);
    require(d_embed > 0 && d_embed <= INT32_MAX, "opt: embeddings are {} wide", d_embed);
  }
  bool pre_norm, final_norm, affine;  // affine: norms have weights and biases
  int64_t d_embed;
  bool projects() const { return d_embed != d_model; }
};

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "opt", kDefaults);
  if (!config.boolean("do_layer_norm_before", true)) keys.flag("do_layer_norm_before", false);
  if (config.boolean("_remove_final_layer_norm", false)) keys.flag("remove_final_layer_norm", true);
  if (config.has("word_embed_proj_dim")) keys.size("word_embedding_length", config.integer("word_embed_proj_dim"));
  if (!config.boolean("layer_norm_elementwise_affine", true)) keys.flag("layer_norm_elementwise_affine", false);
  require(config.boolean("learned_embeddings", true), "learned_embeddings = false is not supported");
  config.boolean("enable_bias", true);  // the biases are there or not
  return keys.metadata;
}

ModelShape shape(const Metadata& m) { return Config(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const Config c(m);
  const int64_t d = c.d_model;
  constexpr TensorList::Options maybe{.bias = Bias::optional};
  TensorList list;
  const auto add_norm = [&](std::string_view gguf, std::string_view hf, bool there) {
    if (there && c.affine) list.add(gguf, hf, {d}, {.bias = Bias::required});
  };
  list.add("token_embd", "decoder.embed_tokens", {c.n_vocab, c.d_embed});
  if (c.projects()) list.add("token_embd_proj", "decoder.project_in", {d, c.d_embed});
  list.add("position_embd", "decoder.embed_positions", {c.context + kPositionOffset, d});
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("decoder.layers.{}.", i));
    add_norm("attn_norm", "self_attn_layer_norm", c.pre_norm);
    list.add("attn_q", "self_attn.q_proj", {d, d}, maybe);
    list.add("attn_k", "self_attn.k_proj", {d, d}, maybe);
    list.add("attn_v", "self_attn.v_proj", {d, d}, maybe);
    list.add("attn_output", "self_attn.out_proj", {d, d}, maybe);
    add_norm("ffn_norm", c.pre_norm ? "final_layer_norm" : "self_attn_layer_norm", true);
    list.add("ffn_up", "fc1", {c.d_ff, d}, maybe);
    list.add("ffn_down", "fc2", {d, c.d_ff}, maybe);
    add_norm("layer_output_norm", "final_layer_norm", !c.pre_norm);
  }
  list.end_layers();
  add_norm("output_norm", "decoder.final_layer_norm", c.final_norm);
  if (c.projects()) list.add("output_proj", "decoder.project_out", {c.d_embed, d});
  list.add_output("lm_head", {c.n_vocab, c.d_embed});
  return list.take();
}

/// [T, D]
Value embed(Forward& f, const Config& c) {
  const Value tokens = f.weight("token_embd.weight"), table = f.weight("position_embd.weight");
  if (!c.projects()) {
    return f.graph.add(Embedding{.position_offset = kPositionOffset}, {f.ids, tokens, f.positions, table})[0];
  }
  const Value narrow = f.graph.add(Embedding{}, {f.ids, tokens})[0];
  const Value rows = cast(add(cast(f.positions, quant::f32), static_cast<float>(kPositionOffset)), quant::i32);
  return add(linear(narrow, {f.weight("token_embd_proj.weight")}, {}), gather_rows(table, rows));
}

Value forward(Forward& f) {
  const Config c(f.metadata);
  const AttentionPlan plan{c.attention()};
  Value x = embed(f, c);
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    if (c.pre_norm) {
      x = sequential_mlp(f, i, x, norm_attention(f, i, x, c, plan).out, c);
    } else {
      const auto [weights, biases] = f.qkv_blocks(i);
      x = sequential_mlp(f, i, x, attend(f, i, linear(x, weights, biases), c, plan), c, Residual::norm);
      x = normed(f, x, c, fmt::format("blk.{}.layer_output_norm", i));
    }
  }
  x = f.wanted_rows(x);
  if (c.final_norm) x = normed(f, x, c, "output_norm");
  if (c.projects()) x = linear(x, {f.weight("output_proj.weight")}, {});
  return f.unembed(x);
}

}  // namespace

extern const Architecture kOpt;  // declared in all.cpp
const Architecture kOpt{.name = "opt",
                        .hf_model_types = {"opt"},
                        .hf_prefix = "model.",
                        .from_hf = from_hf,
                        .derived_from_hf = nullptr,
                        .shape = shape,
                        .tensors = tensors,
                        .forward = forward};

}  // namespace weft
