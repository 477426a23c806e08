// A random model in memory, so that a fresh clone can test what needs a model: seeded weights for every tensor that its
// architecture lists.
#pragma once

#include <cmath>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "models/architecture.h"
#include "models/checkpoint.h"
#include "ops/quant/f32.h"

namespace weft::testing {

/// Sizes that no vector width or block divides, unless a test asks for others.
struct TinyOptions {
  std::string architecture = "llama";  // or one of its kin, gpt2, phi2
  int64_t n_layer = 2, d_model = 36, n_head = 3, n_kv_head = 1, d_ff = 50, context = 300, n_vocab = 61;
  int64_t window = 0;    // not gpt2
  int64_t n_expert = 0;  // not gpt2; two of them are used
  DType type = quant::f32;
  uint64_t seed = 1;
};

/// `n` values of mean 0 and deviation `scale`.
inline std::vector<float> random_values(size_t n, uint64_t seed, double scale = 1) {
  std::mt19937_64 random(seed);
  std::vector<float> values(n);
  for (float& v : values) {
    v = static_cast<float>((static_cast<double>(random() >> 11) * 0x1p-52 - 1) * std::sqrt(3.0) * scale);
  }
  return values;
}

inline std::vector<int32_t> random_ids(size_t n, int64_t n_vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<uint64_t>(n_vocab));
  return ids;
}

inline Metadata tiny_metadata(const TinyOptions& o) {
  Metadata m;
  m.set("general.architecture", o.architecture);
  const auto size = [&](std::string_view key, int64_t value) {
    m.set(fmt::format("{}.{}", o.architecture, key), static_cast<uint32_t>(value));
  };
  size("block_count", o.n_layer);
  size("context_length", o.context);
  size("embedding_length", o.d_model);
  size("feed_forward_length", o.d_ff);
  size("attention.head_count", o.n_head);
  size("vocab_size", o.n_vocab);
  if (o.architecture != "llama") m.set(fmt::format("{}.attention.layer_norm_epsilon", o.architecture), 1e-5f);
  if (o.architecture == "gpt2") return m;
  size("attention.head_count_kv", o.n_kv_head);
  if (o.architecture == "phi2") return m;
  m.set(fmt::format("{}.attention.layer_norm_rms_epsilon", o.architecture), 1e-6f);
  if (o.window > 0) size("attention.sliding_window", o.window);
  if (o.n_expert > 0) {
    size("expert_count", o.n_expert);
    size("expert_used_count", 2);
  }
  return m;
}

class TinyModel final : public Checkpoint {
 public:
  /// `edit` says more about the model before its tensors are listed.
  explicit TinyModel(const TinyOptions& options = {}, const std::function<void(Metadata&)>& edit = {})
      : metadata_(tiny_metadata(options)) {
    if (edit) edit(metadata_);
    for (const TensorSpec& spec : find_architecture(options.architecture).tensors(metadata_)) {
      if (!spec.required && spec.gguf != "output.weight") continue;
      set(spec.gguf, {spec.shape.rank() > 1 ? options.type : DType(quant::f32), spec.shape},
          options.seed * 1000 + names_.size());
    }
  }

  const std::string& path() const override { return path_; }
  const Metadata& metadata() const override { return metadata_; }
  const std::vector<std::string>& tensor_names() const override { return names_; }
  const TensorType* type(std::string_view name) const override {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &it->second.type;
  }
  LoadedTensor rows(std::string_view name, int64_t first, int64_t last) const override {
    const Tensor& whole = at(name);
    const TensorType part{whole.type.dtype, {last - first, whole.type.shape.columns()}};
    return LoadedTensor({part, whole.data + static_cast<size_t>(first) * whole.type.row_bytes()});
  }
  const Tensor& at(std::string_view name) const {
    const auto it = tensors_.find(name);
    require(it != tensors_.end(), "tiny: tensor {} is missing", name);
    return it->second;
  }

  // What a test does to it before a Model is made.
  Metadata& edit() { return metadata_; }
  void drop(std::string_view name) {
    std::erase(names_, name);
    tensors_.erase(tensors_.find(name));
  }
  /// Adds a tensor of random values, or replaces it: the gains of norms near 1, logits of a deviation near 1.
  void set(const std::string& name, const TensorType& type, uint64_t seed) {
    const auto n = static_cast<size_t>(type.elements());
    const bool gain = name.ends_with("norm.weight");
    const double columns = static_cast<double>(type.shape.columns());
    std::vector<float> values = random_values(n, seed, type.shape.rank() > 1 ? 1 / std::sqrt(columns) : 0.1);
    for (float& v : values) v += gain ? 1 : 0;
    storage_.emplace_back(type.bytes());
    if (type.dtype->encode != nullptr) type.dtype->encode(values.data(), storage_.back().data(), n, nullptr);
    if (this->type(name) == nullptr) names_.push_back(name);
    tensors_[name] = {type, storage_.back().data()};
  }

 private:
  std::string path_ = "tiny";
  Metadata metadata_;
  std::vector<std::string> names_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::deque<std::vector<std::byte>> storage_;
};

inline std::shared_ptr<TinyModel> tiny_model(const TinyOptions& options = {}) {
  return std::make_shared<TinyModel>(options);
}

}  // namespace weft::testing
