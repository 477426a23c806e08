#include "convert/lora_merge.h"

#include <map>

#include "ops/quant/f32.h"
#include "ops/quant/for_cpu.h"

namespace weft {
namespace {

class MergedCheckpoint final : public Checkpoint {
 public:
  MergedCheckpoint(std::shared_ptr<const Checkpoint> base, std::vector<LoraAdapter> adapters)
      : base_(std::move(base)), adapters_(std::move(adapters)) {
    for (const LoraAdapter& adapter : adapters_) {
      for (const LoraPair& pair : adapter.pairs) {
        const TensorType* weight = base_->type(pair.tensor);
        require(weight != nullptr, "{}: {} has no tensor {}", adapter.path, path(), pair.tensor);
        check_lora(pair, *weight);
        require(weight->dtype->decode != nullptr, "{}: tensor {} is {}, not a weight type", path(), pair.tensor,
                weight->dtype.name());
        Adapted& adapted = changed_[pair.tensor];
        adapted.type = {quant::f32, weight->shape};
        adapted.pairs.push_back(&pair);
      }
    }
  }

  const std::string& path() const override { return base_->path(); }
  const Metadata& metadata() const override { return base_->metadata(); }
  const std::vector<std::string>& tensor_names() const override { return base_->tensor_names(); }
  const TensorType* type(std::string_view name) const override {
    const auto it = changed_.find(name);
    return it == changed_.end() ? base_->type(name) : &it->second.type;
  }
  LoadedTensor rows(std::string_view name, int64_t first, int64_t last) const override {
    const LoadedTensor from = base_->rows(name, first, last);
    const auto it = changed_.find(name);
    if (it == changed_.end()) return from;
    const auto columns = static_cast<size_t>(from->type.shape.columns());
    auto [sum, bytes] = allocate_tensor({quant::f32, from->type.shape});
    auto* values = reinterpret_cast<float*>(bytes);
    quant::for_this_cpu(from->type.dtype).decode(from->data, values, columns * static_cast<size_t>(last - first));
    for (const LoraPair* pair : it->second.pairs) {
      for (int64_t row = first; row < last; ++row)
        add(*pair, row, {values + static_cast<size_t>(row - first) * columns, columns});
    }
    return sum;
  }

 private:
  struct Adapted {
    TensorType type;
    std::vector<const LoraPair*> pairs;
  };

  /// Row `row` of B A, experts counted through.
  static void add(const LoraPair& pair, int64_t row, std::span<float> to) {
    const Shape& b = pair.b->type.shape;
    const int64_t rank = b.columns(), expert = row / b[b.rank() - 2];
    const float* factor = pair.b->as<float>() + row * rank;
    const float* a = pair.a->as<float>() + static_cast<size_t>(expert * rank) * to.size();
    for (int64_t i = 0; i < rank; ++i, a += to.size()) {
      for (size_t c = 0; c < to.size(); ++c) to[c] += factor[i] * a[c];
    }
  }

  std::shared_ptr<const Checkpoint> base_;
  std::vector<LoraAdapter> adapters_;
  std::map<std::string, Adapted, std::less<>> changed_;
};

}  // namespace

std::shared_ptr<const Checkpoint> merged(std::shared_ptr<const Checkpoint> base, std::vector<LoraAdapter> adapters) {
  if (adapters.empty()) return base;
  return std::make_shared<MergedCheckpoint>(std::move(base), std::move(adapters));
}

}  // namespace weft
