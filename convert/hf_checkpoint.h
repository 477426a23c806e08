// A Hugging Face folder (config.json, tokenizer.json, safetensors) as a checkpoint: its architecture's file says how
// keys, names and layouts become those of GGUF.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "convert/safetensors.h"
#include "models/architecture.h"
#include "models/checkpoint.h"

namespace weft {

class HfCheckpoint final : public Checkpoint {
 public:
  /// Throws Error, the folder or file in front: no config.json, unknown model_type, malformed files.
  explicit HfCheckpoint(std::string folder);

  const std::string& path() const override { return folder_; }
  const Metadata& metadata() const override { return metadata_; }
  const std::vector<std::string>& tensor_names() const override { return names_; }
  const Tensor* find(std::string_view name) const override;

 private:
  void bind(const TensorSpec& spec, std::string_view prefix);
  bool bind_mxfp4(const TensorSpec& spec, const std::string& name);
  std::byte* own(size_t bytes);

  std::string folder_;
  SafetensorsFolder files_;
  Metadata metadata_;
  std::vector<std::string> names_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::vector<std::unique_ptr<std::byte[]>> owned_;
};

}  // namespace weft
