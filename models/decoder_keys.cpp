#include "models/decoder_keys.h"

#include <algorithm>
#include <cmath>

#include "models/blocks.h"

namespace weft {
namespace {

constexpr std::string_view kActivationKey = "hidden_activation";
constexpr std::string_view kPatternKey = "attention.sliding_window_pattern";
constexpr std::string_view kDenseLayersKey = "dense_layers";
// A file that says more is not a model.
constexpr int64_t kMostLayers = 1 << 16;
constexpr int64_t kMostExperts = 1 << 17;  // of all layers

std::string_view epsilon_key(NormKind norm) {
  return norm == NormKind::layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
}

/// A number, or one for each layer if all are the same.
int64_t same_in_all_layers(const Metadata& m, const std::string& key) {
  const MetaValue* value = m.find(key);
  if (value == nullptr || !std::holds_alternative<MetaArray>(*value)) return m.integer(key);
  const std::vector<int64_t> all = m.integers(key);
  require(!all.empty() && std::ranges::all_of(all, [&](int64_t n) { return n == all.front(); }),
          "{} differs between layers, which is not supported", key);
  return all.front();
}

int64_t width_of(const HfConfig& config) {
  // BLOOM's and Falcon's former name goes before the other.
  if (config.has("n_embed")) return config.integer({"n_embed", "hidden_size"});
  return config.integer({"hidden_size", "n_embd"});
}

}  // namespace

DecoderKeys::DecoderKeys(const Metadata& m, std::string_view arch_name, const DecoderDefaults& defaults)
    : arch(arch_name), norm(defaults.norm) {
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", arch, name); };
  const auto size = [&](std::string_view name) { return same_in_all_layers(m, key(name)); };
  const auto size_or = [&](std::string_view name, int64_t otherwise) {
    return m.has(key(name)) ? size(name) : otherwise;
  };
  n_layer = size("block_count");
  d_model = size("embedding_length");
  n_head = size("attention.head_count");
  n_kv_head = size_or("attention.head_count_kv", n_head);
  d_ff = size("feed_forward_length");
  context = size("context_length");
  n_vocab = vocabulary_size(m, arch);
  const auto check = [&](std::string_view what, int64_t value, int64_t most = INT32_MAX) {
    require(value > 0 && value <= most, "{}: the {} is {}", arch, what, value);
  };
  check("number of layers", n_layer, kMostLayers);
  check("width", d_model);
  check("number of heads", n_head);
  check("number of kv heads", n_kv_head);
  check("feed-forward width", d_ff);
  check("context", context);
  if (!m.has(key("attention.key_length"))) {
    require(d_model % n_head == 0, "{}: a width of {} cannot be shared by {} heads", arch, d_model, n_head);
  }
  d_head = size_or("attention.key_length", d_model / n_head);
  check("head dimension", d_head);
  require(n_head % n_kv_head == 0, "{}: {} heads cannot share {} kv heads evenly", arch, n_head, n_kv_head);
  require(n_head <= INT32_MAX / d_head, "{}: {} heads of {} are too many", arch, n_head, d_head);
  const int64_t d_value = size_or("attention.value_length", d_head);
  require(d_value == d_head, "{}: keys of {} and values of {} are not supported", arch, d_head, d_value);
  rotary_dim = size_or("rope.dimension_count", d_head);
  check("rotary dimension", rotary_dim);
  require(rotary_dim <= d_head, "{}: the rotary dimension is {}, heads have {}", arch, rotary_dim, d_head);
  norm_eps = static_cast<float>(m.real(key(epsilon_key(defaults.norm))));
  theta = m.real(key("rope.freq_base"), defaults.theta);
  scale = static_cast<float>(m.real(key("attention.scale"), 1.0 / std::sqrt(static_cast<double>(d_head))));
  window = size_or("attention.sliding_window", 0);
  require(window >= 0 && window <= INT32_MAX, "{}: the window is {}", arch, window);
  activation = m.has(key(kActivationKey)) ? parse_activation(m.text(key(kActivationKey))) : defaults.activation;
  yarn_truncate = defaults.yarn_truncate;
  require(!is_gated(activation), "{} is {}, expected its ungated name", key(kActivationKey), to_string(activation));
}

SoftmaxContext DecoderKeys::attention(Rotary rotary) const {
  SoftmaxContext op{.n_head = static_cast<int>(n_head),
                    .n_kv_head = static_cast<int>(n_kv_head),
                    .d_head = static_cast<int>(d_head),
                    .scale = scale,
                    .window = static_cast<int>(window)};
  if (rotary == Rotary::none) return op;
  op.rotary = rotary;
  op.rotary_dim = static_cast<int>(rotary_dim);
  op.rope_theta = static_cast<float>(theta);
  return op;
}

std::vector<bool> periodic_windows(int64_t n_layer, int64_t period) {
  std::vector<bool> flags;
  for (int64_t i = 0; i < n_layer; ++i) flags.push_back(period == 0 || i % period < period - 1);
  return flags;
}

std::vector<int64_t> layer_windows(const Metadata& m, const DecoderKeys& keys, int64_t period) {
  const std::string key = fmt::format("{}.{}", keys.arch, kPatternKey);
  std::vector<bool> flags;
  const MetaValue* value = m.find(key);
  const auto* array = value == nullptr ? nullptr : std::get_if<MetaArray>(value);
  if (array != nullptr) {
    const auto* stated = std::get_if<std::vector<bool>>(array);
    require(stated != nullptr && static_cast<int64_t>(stated->size()) == keys.n_layer,
            "{} is not a flag for each of {} layers", key, keys.n_layer);
    flags = *stated;
  } else {
    const int64_t stated = m.integer(key, period);
    require(stated >= 0, "{} is {}", key, stated);
    flags = periodic_windows(keys.n_layer, stated);
  }
  std::vector<int64_t> windows;
  for (const bool slides : flags) windows.push_back(slides ? keys.window : 0);
  return windows;
}

void layer_windows_from_hf(const HfConfig& config, int64_t window, const std::vector<bool>& otherwise, int64_t period,
                           KeyWriter& out) {
  std::vector<bool> flags = otherwise;
  if (const std::vector<std::string> types = config.texts("layer_types"); !types.empty()) {
    require(types.size() == otherwise.size(), "layer_types has {} items for {} layers", types.size(), otherwise.size());
    for (size_t i = 0; i < types.size(); ++i) {
      require(types[i] == "full_attention" || types[i] == "sliding_attention", "layer_types: {} is not supported",
              types[i]);
      flags[i] = types[i] == "sliding_attention";
      require(!flags[i] || window > 0, "layer_types has sliding_attention, but there is no sliding_window");
    }
  }
  require(window >= 0, "sliding_window is {}", window);
  if (window > 0) out.size("attention.sliding_window", window);
  else flags.assign(flags.size(), false);
  if (flags != periodic_windows(static_cast<int64_t>(flags.size()), period)) {
    out.metadata.set(out.name(kPatternKey), MetaArray(flags));
  }
}

void upper_windows_from_hf(const HfConfig& config, KeyWriter& out) {
  const bool slides = config.boolean("use_sliding_window", false);
  const int64_t stated = config.integer("sliding_window", slides ? 4096 : 0);
  const int64_t first = config.integer("max_window_layers", 28);
  std::vector<bool> flags(layer_count(config));
  for (size_t i = 0; i < flags.size(); ++i) flags[i] = static_cast<int64_t>(i) >= first;
  layer_windows_from_hf(config, slides ? stated : 0, flags, 0, out);
}

size_t layer_count(const HfConfig& config) {
  const int64_t n = config.integer("num_hidden_layers");
  require(n > 0 && n <= kMostLayers, "num_hidden_layers is {}", n);
  return static_cast<size_t>(n);
}

ExpertKeys::ExpertKeys(const Metadata& m, const DecoderKeys& keys, bool norm_by_default)
    : dense(static_cast<size_t>(keys.n_layer), false) {
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", keys.arch, name); };
  const auto size = [&](std::string_view name, int64_t otherwise) { return m.integer(key(name), otherwise); };
  weights_norm = m.boolean(key("expert_weights_norm"), norm_by_default);
  if (m.has(key(kDenseLayersKey))) {
    for (const int64_t layer : m.integers(key(kDenseLayersKey))) {
      require(layer >= 0 && layer < keys.n_layer, "{}: there is no layer {}", key(kDenseLayersKey), layer);
      dense[static_cast<size_t>(layer)] = true;
    }
  }
  count = size("expert_count", 0);
  used = size("expert_used_count", 0);
  d_ff = size("expert_feed_forward_length", keys.d_ff);
  if (count == 0) return;
  require(used > 0 && used <= count, "{}: {} of {} experts cannot be used", keys.arch, used, count);
  require(count <= kMostExperts / keys.n_layer, "{}: {} layers of {} experts are too many", keys.arch, keys.n_layer,
          count);
  require(d_ff > 0 && d_ff <= INT32_MAX, "{}: the feed-forward width of experts is {}", keys.arch, d_ff);
}

void expert_keys_from_hf(const HfConfig& config, bool weights_norm, KeyWriter& out) {
  out.size("expert_count", config.integer({"num_experts", "num_local_experts"}));
  out.size("expert_used_count", config.integer("num_experts_per_tok"));
  out.size("expert_feed_forward_length", config.integer("moe_intermediate_size"));
  const bool norm = config.boolean("norm_topk_prob", false);
  if (norm != weights_norm) out.flag("expert_weights_norm", norm);
  const auto n_layer = static_cast<int64_t>(layer_count(config));
  const int64_t step = config.integer("decoder_sparse_step", 1);
  const std::vector<int64_t> stated = config.integers("mlp_only_layers");
  require(step > 0, "decoder_sparse_step is {}", step);
  std::vector<int32_t> dense;
  for (int64_t i = 0; i < n_layer; ++i) {
    const bool sparse = (i + 1) % step == 0 && std::ranges::find(stated, i) == stated.end();
    if (!sparse) dense.push_back(static_cast<int32_t>(i));
  }
  if (!dense.empty()) out.metadata.set(out.name(kDenseLayersKey), MetaArray(dense));
}

void KeyWriter::size(std::string_view key, int64_t value) {
  require(value > 0 && value <= UINT32_MAX, "{} would be {}", name(key), value);
  metadata.set(name(key), static_cast<uint32_t>(value));
}

int64_t head_dim_of(const HfConfig& config) {
  if (config.has("head_dim")) return config.integer("head_dim");
  const int64_t d_model = width_of(config);
  const int64_t n_head = config.integer({"num_attention_heads", "n_head", "num_heads"});
  require(n_head > 0, "the number of heads is {}", n_head);
  return d_model / n_head;
}

void set_activation(KeyWriter& keys, Activation activation, const DecoderDefaults& defaults) {
  if (activation == defaults.activation) keys.metadata.erase(keys.name(kActivationKey));
  else keys.text(kActivationKey, std::string(to_string(activation)));
}

KeyWriter decoder_keys_from_hf(const HfConfig& config, std::string_view arch, const DecoderDefaults& defaults) {
  KeyWriter keys(arch);
  const auto with_default = [&](const FieldNames& names, int64_t otherwise) {
    return otherwise > 0 ? config.integer(names, otherwise) : config.integer(names);
  };
  const int64_t d_model = width_of(config);
  keys.size("embedding_length", d_model);
  keys.size("context_length", with_default({"max_position_embeddings", "n_positions", "seq_length"}, defaults.context));
  keys.size("block_count", config.integer({"num_hidden_layers", "n_layer", "num_layers"}));
  const int64_t per_width = defaults.d_ff_per_d_model;
  require(d_model <= UINT32_MAX, "hidden_size is {}", d_model);
  keys.size("feed_forward_length",
            with_default({"intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"}, per_width * d_model));
  keys.size("attention.head_count", config.integer({"num_attention_heads", "n_head", "num_heads"}));
  if (config.has("head_dim")) {
    keys.size("attention.key_length", head_dim_of(config));
    keys.size("attention.value_length", head_dim_of(config));
  }
  keys.size("vocab_size", config.integer("vocab_size"));
  keys.real(epsilon_key(defaults.norm),
            config.real({"rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps"},
                        defaults.norm_eps));
  const std::string stated = config.text({"hidden_activation", "hidden_act", "activation_function", "activation"}, "");
  if (!stated.empty()) set_activation(keys, activation_from_hf(stated), defaults);
  return keys;
}

}  // namespace weft
