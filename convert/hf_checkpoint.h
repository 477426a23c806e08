// A Hugging Face folder (config.json, tokenizer.json, weights) as a checkpoint: its architecture's file says how
// keys, names and layouts become those of GGUF.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "convert/hf_layout.h"
#include "convert/weights.h"

namespace weft {

class HfCheckpoint final : public Checkpoint {
 public:
  /// Throws Error, the folder or file in front: no config.json, unknown model_type, malformed files.
  explicit HfCheckpoint(std::string folder);

  const std::string& path() const override { return folder_; }
  const Metadata& metadata() const override { return metadata_; }
  const std::vector<std::string>& tensor_names() const override { return names_; }
  const TensorType* type(std::string_view name) const override;
  LoadedTensor rows(std::string_view name, int64_t first, int64_t last) const override;

 private:
  void bind(const TensorSpec& spec, std::string_view prefix);

  std::string folder_;
  WeightsFolder files_;
  Metadata metadata_;
  std::vector<std::string> names_;
  std::map<std::string, HfLayout, std::less<>> tensors_;
  std::map<std::string, LoadedTensor, std::less<>> derived_;  // vectors, of what config.json implies
};

}  // namespace weft
