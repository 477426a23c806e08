// What a model file offers, whatever its format: metadata under GGUF keys and tensors under GGUF names.
// convert/ implements it; models read it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/tensor.h"
#include "models/metadata.h"

namespace weft {

/// A tensor whose bytes are there as long as this is, or a copy of it: mapped from a file, or made when asked for.
class LoadedTensor {
 public:
  LoadedTensor() = default;
  /// Null `owner`: somebody else keeps the bytes.
  explicit LoadedTensor(Tensor tensor, std::shared_ptr<const void> owner = nullptr)
      : tensor_(tensor), owner_(std::move(owner)) {}

  const Tensor& operator*() const& { return tensor_; }
  const Tensor& operator*() const&& = delete;  // the bytes would be gone at once
  const Tensor* operator->() const { return &tensor_; }
  /// The same bytes under another shape of as many elements.
  LoadedTensor reshaped(const Shape& shape) const {
    LoadedTensor other = *this;
    other.tensor_.type.shape = shape;
    return other;
  }

 private:
  Tensor tensor_;
  std::shared_ptr<const void> owner_;
};

/// Uninitialized memory for a tensor, with the tensor over it.
inline std::pair<LoadedTensor, std::byte*> allocate_tensor(const TensorType& type) {
  const std::shared_ptr<std::byte[]> bytes = std::make_shared_for_overwrite<std::byte[]>(type.bytes());
  return {LoadedTensor({type, bytes.get()}, bytes), bytes.get()};
}

/// Types are known at once; bytes are leased. All functions may be called from several threads.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  /// The path the user gave, for messages.
  virtual const std::string& path() const = 0;
  virtual const Metadata& metadata() const = 0;
  /// Names in file order.
  virtual const std::vector<std::string>& tensor_names() const = 0;
  /// Null if there is no tensor of that name. Weights are [out, in].
  virtual const TensorType* type(std::string_view name) const = 0;
  /// Rows [first, last) of type(name)->shape.rows(), as [last - first, columns]. The tensor must exist.
  virtual LoadedTensor rows(std::string_view name, int64_t first, int64_t last) const = 0;

  /// The whole tensor. Throws Error if it is missing.
  LoadedTensor load(std::string_view name) const {
    const TensorType* known = type(name);
    require(known != nullptr, "{}: tensor {} is missing", path(), name);
    return rows(name, 0, known->shape.rows()).reshaped(known->shape);
  }
};

}  // namespace weft
