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
      types_.emplace(planned.name, planned.to);
    }
  }

  const std::string& path() const override { return source_->path(); }
  const Metadata& metadata() const override { return source_->metadata(); }
  const std::vector<std::string>& tensor_names() const override { return source_->tensor_names(); }
  const TensorType* type(std::string_view name) const override {
    const auto it = types_.find(name);
    return it == types_.end() ? nullptr : &it->second;
  }
  LoadedTensor rows(std::string_view name, int64_t first, int64_t last) const override {
    LoadedTensor from = source_->rows(name, first, last);
    const DType to = type(name)->dtype;
    if (from->type.dtype == to) return from;
    auto [converted, bytes] = allocate_tensor({to, from->type.shape});
    convert_tensor(*from, to, bytes);
    return converted;
  }

 private:
  std::shared_ptr<const Checkpoint> source_;
  std::map<std::string, TensorType, std::less<>> types_;
};

}  // namespace

std::shared_ptr<const Checkpoint> quantized(std::shared_ptr<const Checkpoint> source, const ConvertOptions& options) {
  return std::make_shared<QuantizedCheckpoint>(std::move(source), options);
}

}  // namespace weft
