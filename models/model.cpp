#include "models/model.h"

#include <algorithm>

#include "ops/quant/f32.h"
#include "ops/quant/find.h"

namespace weft {
namespace {

void check_shape_is_sane(const ModelShape& shape) {
  const auto positive = [](int64_t value, std::string_view what) {
    require(value > 0 && value <= (int64_t{1} << 31), "the metadata says {} = {}", what, value);
  };
  positive(shape.context_length, "context length");
  positive(shape.n_layer, "layers");
  positive(shape.n_vocab, "vocabulary size");
  positive(shape.n_kv_head, "kv heads");
  positive(shape.d_head, "head dimension");
}

}  // namespace

Model::Model(std::shared_ptr<const Checkpoint> checkpoint) : checkpoint_(std::move(checkpoint)) {
  try {
    architecture_ = &find_architecture(metadata().text("general.architecture"));
    shape_ = architecture_->shape(metadata());
    check_shape_is_sane(shape_);
    // Before the tensors are listed: a hostile file may say that there are many.
    require(static_cast<size_t>(shape_.n_layer) <= checkpoint_->tensor_names().size(),
            "the metadata says {} layers, the file has {} tensors", shape_.n_layer, checkpoint_->tensor_names().size());
    for (const TensorSpec& spec : architecture_->tensors(metadata())) {
      const Tensor* found = checkpoint_->find(spec.gguf);
      const bool replaced = !spec.unless.empty() && checkpoint_->find(spec.unless) != nullptr;
      if (found == nullptr && (!spec.required || replaced)) continue;
      require(found != nullptr, "tensor {} is missing", spec.gguf);
      Tensor tensor = *found;
      require(tensor.type.shape == spec.shape, "tensor {} is {}, the metadata says {}", spec.gguf,
              to_string(tensor.type.shape), to_string(spec.shape));
      require(tensor.type.dtype->decode != nullptr && tensor.type.dtype != DType(quant::i32),
              "tensor {} is {}, not a weight type", spec.gguf, tensor.type.dtype.name());
      if (tensor.type.shape.rank() == 1 && tensor.type.dtype != DType(quant::f32)) {
        const auto n = static_cast<size_t>(tensor.type.elements());
        converted_.push_back(std::make_unique<float[]>(n));
        tensor.type.dtype->decode(tensor.data, converted_.back().get(), n);
        tensor = {{quant::f32, tensor.type.shape}, reinterpret_cast<std::byte*>(converted_.back().get())};
      }
      tensors_.emplace(spec.gguf, tensor);
    }
  } catch (const Error& error) {
    throw std::string_view(error.what()).starts_with(path()) ? error : error.at(path());
  }
}

const Tensor* Model::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

size_t Model::weight_bytes() const {
  size_t total = 0;
  for (const auto& [name, tensor] : tensors_) total += tensor.type.bytes();
  return total;
}

DType Model::main_type() const {
  std::map<std::string_view, size_t> bytes;
  for (const auto& [name, tensor] : tensors_) bytes[tensor.type.dtype.name()] += tensor.type.bytes();
  const auto it = std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  return it == bytes.end() ? DType{} : quant::find(it->first);
}

}  // namespace weft
