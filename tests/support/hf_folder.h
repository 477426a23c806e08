// A Hugging Face folder for tests: config.json and one model.safetensors of what the architecture asks for.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "convert/json.h"
#include "convert/safetensors.h"
#include "convert/safetensors_writer.h"
#include "models/architecture.h"
#include "ops/quant/f32.h"
#include "tests/convert/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace weft::testing {

class HfFolder {
 public:
  /// Random f32 tensors in the shapes of the files that transformers writes.
  explicit HfFolder(const std::string& config_json) : config_(config_json) {
    const HfConfig config(flatten_json(config_, "config.json"));
    const Architecture& architecture = find_hf_architecture(config.text("model_type"));
    for (const TensorSpec& spec : architecture.tensors(architecture.from_hf(config))) {
      Shape shape = spec.shape;
      if (spec.hf.size() > 1) shape = Shape(spec.shape.dims().subspan(1));
      if (spec.transform == Transform::transpose) shape = {spec.shape[1], spec.shape[0]};
      if (!spec.required) continue;
      for (const std::string& name : spec.hf) add(std::string(architecture.hf_prefix) + name, shape);
    }
    write();
  }

  const std::string& path() const { return folder_.path(); }
  std::string file(std::string_view name) const { return folder_.file(name); }

  // Changes take effect with write().
  std::string& config() { return config_; }
  void add(const std::string& name, const Shape& shape) {
    const double scale = shape.rank() > 1 ? 1 / std::sqrt(static_cast<double>(shape.columns())) : 0.1;
    values_.push_back(random_values(static_cast<size_t>(shape.elements()), values_.size() + 1, scale));
    if (name.ends_with("norm.weight") || name.find("ln_") != std::string::npos) {
      for (float& v : values_.back()) v += 1;
    }
    drop(name);
    tensors_.push_back({name, {{quant::f32, shape}, reinterpret_cast<std::byte*>(values_.back().data())}});
  }
  void drop(std::string_view name) {
    std::erase_if(tensors_, [&](const NamedTensor& t) { return t.name == name; });
  }
  const Tensor& at(std::string_view name) const {
    for (const NamedTensor& t : tensors_) {
      if (t.name == name) return t.tensor;
    }
    fail("the test's folder has no {}", name);
  }
  std::vector<NamedTensor>& tensors() { return tensors_; }
  void write() {
    folder_.write("config.json", config_);
    write_safetensors(file("model.safetensors"), tensors_);
  }

 private:
  TempFolder folder_;
  std::string config_;
  std::deque<std::vector<float>> values_;
  std::vector<NamedTensor> tensors_;
};

// Sizes as small as they get with several of everything.
inline constexpr std::string_view kGpt2Config = R"({"model_type": "gpt2", "n_embd": 12, "n_positions": 50, "n_layer": 2,
    "n_head": 3, "n_inner": 20, "vocab_size": 17})";
inline constexpr std::string_view kLlamaConfig = R"({"model_type": "llama", "hidden_size": 16,
    "max_position_embeddings": 50, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 20, "vocab_size": 17})";
inline constexpr std::string_view kMixtralConfig = R"({"model_type": "mixtral", "hidden_size": 16,
    "max_position_embeddings": 50, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 20, "vocab_size": 17, "num_local_experts": 3, "num_experts_per_tok": 2})";
inline constexpr std::string_view kNeoxConfig = R"({"model_type": "gpt_neox", "hidden_size": 16,
    "max_position_embeddings": 50, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20,
    "vocab_size": 17, "rotary_pct": 0.5})";

}  // namespace weft::testing
