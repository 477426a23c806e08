// What a model file offers, whatever its format: metadata under GGUF keys and tensors under GGUF names.
// convert/ implements it; models read it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/tensor.h"
#include "models/metadata.h"

namespace weft {

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  /// The path the user gave, for messages.
  virtual const std::string& path() const = 0;
  virtual const Metadata& metadata() const = 0;
  /// Names in file order.
  virtual const std::vector<std::string>& tensor_names() const = 0;
  /// The tensor's bytes, valid as long as the checkpoint; null if there is none of that name. Weights are [out, in].
  virtual const Tensor* find(std::string_view name) const = 0;

  /// Like find, but a missing tensor is an Error.
  const Tensor& at(std::string_view name) const {
    const Tensor* tensor = find(name);
    require(tensor != nullptr, "{}: tensor {} is missing", path(), name);
    return *tensor;
  }
};

}  // namespace weft
