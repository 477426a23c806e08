// The metadata keys that nearly every architecture has: ARCH.embedding_length and its kin, from config.json and back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/architecture.h"
#include "models/hf_config.h"
#include "ops/activation.h"
#include "ops/norm.h"
#include "ops/softmax_context.h"

namespace weft {

/// What an architecture is where its metadata says nothing.
struct DecoderDefaults {
  NormKind norm = NormKind::rms;
  double norm_eps = 1e-5;                    // of config.json; GGUF always states it
  Activation activation = Activation::silu;  // ungated name; ARCH.hidden_activation, weft's own key, departs from it
  int64_t d_ff_per_d_model = 0;              // 0: must be stated
  int64_t context = 0;                       // 0: must be stated
  double theta = 10000;
  bool yarn_truncate = true;  // as in RopeDefaults
};

/// Read and checked; throws Error on a size that is missing or out of range.
struct DecoderKeys {
  DecoderKeys(const Metadata& metadata, std::string_view arch, const DecoderDefaults& defaults);

  std::string arch;
  NormKind norm;
  int64_t n_layer, d_model, n_head, n_kv_head, d_ff, context, d_head, rotary_dim, n_vocab;
  float norm_eps;
  double theta;
  float scale;  // of scores
  int64_t window;
  Activation activation;  // ungated
  bool yarn_truncate;

  int64_t q_rows() const { return n_head * d_head; }
  int64_t kv_rows() const { return n_kv_head * d_head; }
  ModelShape shape() const { return {context, n_layer, n_vocab, n_kv_head, d_head}; }
  /// Heads, scale and window; with `rotary`, its dimension and theta.
  SoftmaxContext attention(Rotary rotary = Rotary::none) const;
};

/// ARCH.* keys in the making.
class KeyWriter {
 public:
  explicit KeyWriter(std::string_view arch) : arch_(arch) {}

  std::string name(std::string_view key) const { return fmt::format("{}.{}", arch_, key); }
  /// u32. Throws Error unless 0 < value < 2^32.
  void size(std::string_view key, int64_t value);
  void real(std::string_view key, double value) { metadata.set(name(key), static_cast<float>(value)); }
  void flag(std::string_view key, bool value) { metadata.set(name(key), value); }
  void text(std::string_view key, std::string value) { metadata.set(name(key), std::move(value)); }

  std::string_view arch() const { return arch_; }

  Metadata metadata;

 private:
  std::string arch_;
};

/// How far back each layer sees, its own token included; 0: everything. ARCH.attention.sliding_window holds in the
/// layers that ARCH.attention.sliding_window_pattern says: a flag for each, or a period n of which all but the last do
/// (1: none, 0: all of them). Absent: `period`.
std::vector<int64_t> layer_windows(const Metadata& metadata, const DecoderKeys& keys, int64_t period = 0);
/// Both keys: a window of `window` tokens (0: none) in the layers that layer_types calls sliding_attention, or where it
/// is absent in those of `otherwise`. The pattern is left out where `period` says the same. Throws Error on other types
/// of layers.
void layer_windows_from_hf(const HfConfig& config, int64_t window, const std::vector<bool>& otherwise, int64_t period,
                           KeyWriter& out);
/// The same of the families where use_sliding_window lets the layers from max_window_layers on slide.
void upper_windows_from_hf(const HfConfig& config, KeyWriter& out);
/// num_hidden_layers, checked.
size_t layer_count(const HfConfig& config);
/// The flags of a period.
std::vector<bool> periodic_windows(int64_t n_layer, int64_t period);

/// Of a mixture of experts; count is 0 where there is none.
struct ExpertKeys {
  /// `weights_norm`: whether the weights of a token's experts sum to 1 where ARCH.expert_weights_norm is absent.
  ExpertKeys(const Metadata& metadata, const DecoderKeys& keys, bool weights_norm = true);

  int64_t count, used, d_ff;
  bool weights_norm;
  std::vector<bool> dense;  // by layer: those of ARCH.dense_layers, weft's own key, have an ordinary MLP

  bool in_layer(int64_t layer) const { return count > 0 && !dense[static_cast<size_t>(layer)]; }
};

/// Their keys, from the spellings of the families that choose experts by softmax. Dense layers are those of
/// mlp_only_layers, and all but every decoder_sparse_step-th.
void expert_keys_from_hf(const HfConfig& config, bool weights_norm, KeyWriter& out);

/// Sizes, epsilon and activation of config.json in the spellings of all its classes; the head dimension where it is
/// stated. Nothing of rotary embeddings: see rope_from_hf.
KeyWriter decoder_keys_from_hf(const HfConfig& config, std::string_view arch, const DecoderDefaults& defaults);

/// ARCH.hidden_activation, or nothing where it is the default.
void set_activation(KeyWriter& keys, Activation activation, const DecoderDefaults& defaults);

/// head_dim, or the width over the heads.
int64_t head_dim_of(const HfConfig& config);

}  // namespace weft
