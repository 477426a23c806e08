// A checkpoint bound to its architecture: every tensor found, its shape checked, vectors as f32.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/architecture.h"
#include "models/checkpoint.h"
#include "models/lora.h"
#include "models/session/tokenizer_spec.h"

namespace weft {

class Model {
 public:
  /// Throws Error: unknown architecture, a missing tensor, a tensor of the wrong shape.
  explicit Model(std::shared_ptr<const Checkpoint> checkpoint);

  const std::string& path() const { return checkpoint_->path(); }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const Metadata& metadata() const { return checkpoint_->metadata(); }
  const Architecture& architecture() const { return *architecture_; }
  const ModelShape& shape() const { return shape_; }

  /// The tensor of that GGUF name, or null. One-dimensional ones are f32 whatever the file holds.
  const Tensor* find(std::string_view name) const;
  /// Applies one more adapter, at run time: the weights stay as they are. Throws Error if it does not fit them.
  void adapt(LoraAdapter adapter);
  const std::vector<LoraAdapter>& adapters() const { return adapters_; }

  /// Bytes of all weights as they are stored.
  size_t weight_bytes() const;
  /// The type most weight bytes have: what the model is called by ("q4_0").
  DType main_type() const;

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  const Architecture* architecture_;
  ModelShape shape_;
  std::map<std::string, LoadedTensor, std::less<>> tensors_;
  std::vector<LoraAdapter> adapters_;
};

}  // namespace weft
