#include "models/decoder_keys.h"

#include <algorithm>
#include <cmath>

#include "models/blocks.h"

namespace weft {
namespace {

constexpr std::string_view kActivationKey = "hidden_activation";
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

ExpertKeys::ExpertKeys(const Metadata& m, const DecoderKeys& keys) {
  const auto size = [&](std::string_view name, int64_t otherwise) {
    return m.integer(fmt::format("{}.{}", keys.arch, name), otherwise);
  };
  count = size("expert_count", 0);
  used = size("expert_used_count", 0);
  d_ff = size("expert_feed_forward_length", keys.d_ff);
  if (count == 0) return;
  require(used > 0 && used <= count, "{}: {} of {} experts cannot be used", keys.arch, used, count);
  require(count <= kMostExperts / keys.n_layer, "{}: {} layers of {} experts are too many", keys.arch, keys.n_layer,
          count);
  require(d_ff > 0 && d_ff <= INT32_MAX, "{}: the feed-forward width of experts is {}", keys.arch, d_ff);
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
  const std::string stated = config.text({"hidden_act", "activation_function", "activation", "hidden_activation"}, "");
  const Activation activation = stated.empty() ? defaults.activation : activation_from_hf(stated);
  if (activation != defaults.activation) keys.text(kActivationKey, std::string(to_string(activation)));
  return keys;
}

}  // namespace weft
