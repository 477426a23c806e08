#include "convert/quantized.h"

#include <map>
#include <vector>

namespace weft {
namespace {

class QuantizedCheckpoint final : public Checkpoint {
 public:
  QuantizedCheckpoint(std::shared_ptr<const Checkpoint> source, const ConvertOptions& options)
      : source_(std::move(source)) {
    for (const PlannedTensor& planned : plan_conversion(*source_, options).tensors) {
      Tensor tensor = source_->at(planned.name);
      if (planned.from.dtype != planned.to.dtype) {
        owned_.push_back(std::make_unique<std::byte[]>(planned.to.bytes()));
        convert_tensor(tensor, planned.to.dtype, owned_.back().get());
        tensor = {planned.to, owned_.back().get()};
      }
      tensors_.emplace(planned.name, tensor);
    }
  }

  const std::string& path() const override { return source_->path(); }
  const Metadata& metadata() const override { return source_->metadata(); }
  const std::vector<std::string>& tensor_names() const override { return source_->tensor_names(); }
  const Tensor* find(std::string_view name) const override {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &it->second;
  }

 private:
  std::shared_ptr<const Checkpoint> source_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::vector<std::unique_ptr<std::byte[]>> owned_;
};

}  // namespace

std::shared_ptr<const Checkpoint> quantized(std::shared_ptr<const Checkpoint> source, const ConvertOptions& options) {
  return std::make_shared<QuantizedCheckpoint>(std::move(source), options);
}

}  // namespace weft
