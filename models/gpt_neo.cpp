// GPT-Neo: GPT-2 with layers that see everything and layers that see a window, by turns, and scores that are not
// scaled. No other GGUF program runs it: names and keys follow GGUF's habits. gptneo.attention.scale is 1;
// gptneo.attention.sliding_window is the window in tokens and gptneo.attention.sliding_window_pattern an array of
// booleans, true for the layers that have it (absent: all), as elsewhere. Sources: Black et al.,
// "GPT-Neo: Large Scale Autoregressive Language Modeling with Mesh-Tensorflow", 2021; Hugging Face GPTNeoForCausalLM.
#include <algorithm>

#include "models/layers.h"
#include "models/tensor_list.h"
#include "ops/embedding.h"

namespace weft {
namespace {

constexpr DecoderDefaults kDefaults{
    .norm = NormKind::layer, .activation = Activation::gelu_tanh, .d_ff_per_d_model = 4};

DecoderKeys keys_of(const Metadata& m) { return {m, "gptneo", kDefaults}; }

/// "global" or "local" for each layer: attention_layers, or attention_types, [[["global", "local"], 12]], unfolded.
std::vector<std::string> attention_layers(const HfConfig& config, size_t n_layer) {
  std::vector<std::string> unfolded;
  for (size_t i = 0;; ++i) {
    const std::string kinds = fmt::format("attention_types.{}.0", i), times = fmt::format("attention_types.{}.1", i);
    if (!config.has(kinds) || !config.has(times)) break;
    const std::vector<std::string> turn = config.texts(kinds);
    for (int64_t n = config.integer(times); n > 0 && !turn.empty() && unfolded.size() <= n_layer; --n) {
      unfolded.insert(unfolded.end(), turn.begin(), turn.end());
    }
  }
  std::vector<std::string> layers = config.texts("attention_layers");
  if (layers.empty()) layers = std::move(unfolded);
  for (size_t i = 0; i < n_layer && layers.size() == i && !config.has_any("attention_types."); ++i) {
    layers.emplace_back(i % 2 == 0 ? "global" : "local");
  }
  require(layers.size() == n_layer, "attention_layers, or attention_types, is about {} layers, num_layers is {}",
          layers.size(), n_layer);
  return layers;
}

Metadata from_hf(const HfConfig& config) {
  KeyWriter keys = decoder_keys_from_hf(config, "gptneo", kDefaults);
  keys.real("attention.scale", 1);
  const int64_t n_layer = keys.metadata.integer("gptneo.block_count");
  require(n_layer <= 1 << 16, "num_layers is {}", n_layer);
  std::vector<bool> local;
  for (const std::string& kind : attention_layers(config, static_cast<size_t>(n_layer))) {
    require(kind == "global" || kind == "local", "attention_layers: {} is not supported", kind);
    local.push_back(kind == "local");
  }
  const int64_t window = config.integer("window_size", 256);
  if (std::ranges::find(local, true) != local.end()) {
    require(window > 0, "window_size is {}", window);
    layer_windows_from_hf(config, window, local, 0, keys);
  }
  return keys.metadata;
}

ModelShape shape(const Metadata& m) { return keys_of(m).shape(); }

std::vector<TensorSpec> tensors(const Metadata& m) {
  const DecoderKeys c = keys_of(m);
  const int64_t d = c.d_model;
  constexpr TensorList::Options biased{.bias = Bias::required};
  TensorList list;
  list.add("token_embd", "wte", {c.n_vocab, d});
  list.add("position_embd", "wpe", {c.context, d});
  for (int64_t i = 0; i < c.n_layer; ++i) {
    list.layer(i, fmt::format("h.{}.", i));
    list.add("attn_norm", "ln_1", {d}, biased);
    list.add("attn_q", "attn.attention.q_proj", {d, d});
    list.add("attn_k", "attn.attention.k_proj", {d, d});
    list.add("attn_v", "attn.attention.v_proj", {d, d});
    list.add("attn_output", "attn.attention.out_proj", {d, d}, biased);
    list.add("ffn_norm", "ln_2", {d}, biased);
    list.add("ffn_up", "mlp.c_fc", {c.d_ff, d}, biased);
    list.add("ffn_down", "mlp.c_proj", {d, c.d_ff}, biased);
  }
  list.end_layers();
  list.add("output_norm", "ln_f", {d}, biased);
  list.add_output("lm_head", {c.n_vocab, d});
  return list.take();
}

Value forward(Forward& f) {
  const DecoderKeys c = keys_of(f.metadata);
  const std::vector<int64_t> windows = layer_windows(f.metadata, c);
  AttentionPlan plan{c.attention()};
  Value x = f.graph.add(Embedding{},
                        {f.ids, f.weight("token_embd.weight"), f.positions, f.weight("position_embd.weight")})[0];
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const Graph::Scope scope(f.graph, fmt::format("blk.{}", i));
    plan.op.window = static_cast<int>(windows[static_cast<size_t>(i)]);
    x = sequential_mlp(f, i, x, norm_attention(f, i, x, c, plan).out, c);
  }
  return f.logits(x, c.norm, c.norm_eps);
}

}  // namespace

extern const Architecture kGptNeo;  // declared in all.cpp
const Architecture kGptNeo{.name = "gptneo",
                           .hf_model_types = {"gpt_neo"},
                           .hf_prefix = "transformer.",
                           .from_hf = from_hf,
                           .derived_from_hf = nullptr,
                           .shape = shape,
                           .tensors = tensors,
                           .forward = forward};

}  // namespace weft
