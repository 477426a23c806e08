#include "models/model.h"

#include <algorithm>
#include <cstring>

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

/// But for leading dimensions of 1, which files have or not.
bool is_same(const Shape& a, const Shape& b) {
  const auto kept = [](const Shape& shape) {
    auto dims = shape.dims();
    while (dims.size() > 1 && dims.front() == 1) dims = dims.subspan(1);
    return dims;
  };
  return std::ranges::equal(kept(a), kept(b));
}

LoadedTensor as_f32(LoadedTensor tensor) {
  if (tensor->type.dtype == DType(quant::f32)) return tensor;
  auto [converted, bytes] = allocate_tensor({quant::f32, tensor->type.shape});
  tensor->type.dtype->decode(tensor->data, reinterpret_cast<float*>(bytes),
                             static_cast<size_t>(tensor->type.elements()));
  return converted;
}

/// The spec's rows of every matrix of a stack, copied. Throws Error if the stack has another shape.
LoadedTensor unstacked(const Checkpoint& checkpoint, const TensorSpec& spec) {
  const int64_t n = spec.shape[0], rows = spec.shape[1];
  const TensorType& type = *checkpoint.type(spec.gguf_stacked);
  const Shape whole{n, spec.parts * rows, spec.shape[2]};
  require(type.shape == whole, "tensor {} is {}, the metadata says {}", spec.gguf_stacked, to_string(type.shape),
          to_string(whole));
  auto [tensor, to] = allocate_tensor({type.dtype, spec.shape});
  const size_t bytes = static_cast<size_t>(rows) * type.row_bytes();
  for (int64_t i = 0; i < n; ++i, to += bytes) {
    const int64_t first = (i * spec.parts + spec.part) * rows;
    const LoadedTensor part = checkpoint.rows(spec.gguf_stacked, first, first + rows);
    std::memcpy(to, part->data, bytes);
  }
  return tensor;
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
      const TensorType* type = checkpoint_->type(spec.gguf);
      if (type == nullptr && !spec.gguf_stacked.empty() && checkpoint_->type(spec.gguf_stacked) != nullptr) {
        tensors_.emplace(spec.gguf, unstacked(*checkpoint_, spec));
        continue;
      }
      const bool replaced = !spec.unless.empty() && checkpoint_->type(spec.unless) != nullptr;
      if (type == nullptr && (!spec.required || replaced)) continue;
      require(type != nullptr, "tensor {} is missing", spec.gguf);
      require(is_same(type->shape, spec.shape), "tensor {} is {}, the metadata says {}", spec.gguf,
              to_string(type->shape), to_string(spec.shape));
      require(type->dtype->decode != nullptr && type->dtype != DType(quant::i32), "tensor {} is {}, not a weight type",
              spec.gguf, type->dtype.name());
      LoadedTensor tensor = checkpoint_->load(spec.gguf).reshaped(spec.shape);
      const bool vector = spec.shape.rank() == 1 || spec.gguf.ends_with(".bias");  // of experts: one each
      tensors_.emplace(spec.gguf, vector ? as_f32(std::move(tensor)) : std::move(tensor));
    }
  } catch (const Error& error) {
    throw std::string_view(error.what()).starts_with(path()) ? error : error.at(path());
  }
}

const Tensor* Model::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &*it->second;
}

void Model::adapt(LoraAdapter adapter) {
  for (const LoraPair& pair : adapter.pairs) {
    const Tensor* weight = find(pair.tensor);
    require(weight != nullptr, "{}: {} has no tensor {}", adapter.path, path(), pair.tensor);
    check_lora(pair, weight->type);
  }
  adapters_.push_back(std::move(adapter));
}

size_t Model::weight_bytes() const {
  size_t total = 0;
  for (const auto& [name, tensor] : tensors_) total += tensor->type.bytes();
  return total;
}

DType Model::main_type() const {
  std::map<std::string_view, size_t> bytes;
  for (const auto& [name, tensor] : tensors_) bytes[tensor->type.dtype.name()] += tensor->type.bytes();
  const auto it = std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  return it == bytes.end() ? DType{} : quant::find(it->first);
}

}  // namespace weft
