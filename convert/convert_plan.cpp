#include "convert/convert_plan.h"

#include <fnmatch.h>

#include <algorithm>
#include <map>

#include "convert/type_mix.h"
#include "ops/quant/f32.h"
#include "ops/quant/find.h"

namespace weft {
namespace {

/// What the file is called by where nobody said: the type most bytes of its matrices have.
uint32_t dominant_file_type(const ConvertPlan& plan) {
  std::map<std::string_view, size_t> bytes;
  for (const PlannedTensor& t : plan.tensors) {
    if (!stays_f32(t.name, t.to)) bytes[t.to.dtype.name()] += t.to.bytes();
  }
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  if (most == bytes.end()) return 0;
  const DType type = quant::find(most->first);
  return type && type->encode != nullptr ? find_mix(most->first).file_type : 0;
}

/// The last override that fits; marks it as used.
const TypeOverride* override_for(const std::string& tensor, const std::vector<TypeOverride>& overrides,
                                 std::vector<bool>& used) {
  const TypeOverride* found = nullptr;
  for (size_t i = 0; i < overrides.size(); ++i) {
    if (fnmatch(overrides[i].pattern.c_str(), tensor.c_str(), 0) != 0) continue;
    found = &overrides[i];
    used[i] = true;
  }
  return found;
}

}  // namespace

TypeOverride parse_override(std::string_view text) {
  const size_t equals = text.rfind('=');
  require(equals != std::string_view::npos && equals > 0, "--override {}: expected PATTERN=type", text);
  const std::string_view name = text.substr(equals + 1);
  const DType type = quant::find(name);
  require(static_cast<bool>(type), "--override {}: there is no type {}", text, name);
  require(type->encode != nullptr, "--override {}: weft reads {} but cannot write it", text, name);
  return {std::string(text.substr(0, equals)), type};
}

ConvertPlan plan_conversion(const Checkpoint& source, const ConvertOptions& options) {
  const TypeMix* mix = options.type.empty() ? nullptr : &find_mix(options.type);
  const MixModel model(source);
  std::vector<bool> used(options.overrides.size());
  ConvertPlan plan;
  for (const std::string& name : source.tensor_names()) {
    const TensorType from = *source.type(name);
    require(from.dtype->decode != nullptr && from.dtype != DType(quant::i32), "{}: tensor {} is {}, not a weight type",
            source.path(), name, from.dtype.name());
    PlannedTensor tensor{.name = name, .from = from, .to = from, .asked = from.dtype};
    const bool matrix = from.shape.rank() >= 2;
    if (const TypeOverride* rule = matrix ? override_for(name, options.overrides, used) : nullptr) {
      tensor.asked = rule->type;
    } else if (stays_f32(name, from)) {
      tensor.asked = quant::f32;
    } else if (mix != nullptr && !(mix->base->is_quantized && from.dtype == DType(*mix->base))) {
      tensor.asked = type_in(*mix, name, model);
    }
    tensor.to.dtype = tensor.asked;
    if (const int64_t columns = from.shape.columns(); columns % tensor.asked->block_elems != 0) {
      require(options.fallback, "{}: tensor {} has rows of {} elements, {} needs whole blocks of {}", source.path(),
              name, columns, tensor.asked.name(), tensor.asked->block_elems);
      tensor.to.dtype = fallback_for(tensor.asked, columns);
    }
    if (options.importance != nullptr && matrix && tensor.to.dtype->is_quantized && tensor.to.dtype != from.dtype) {
      const size_t matrices = from.shape.rank() == 3 ? static_cast<size_t>(from.shape[0]) : 1;
      tensor.importance = options.importance->means(name, static_cast<size_t>(from.shape.columns()), matrices);
    }
    plan.bytes += tensor.to.bytes();
    plan.elements += static_cast<size_t>(tensor.to.elements());
    plan.tensors.push_back(std::move(tensor));
  }
  for (size_t i = 0; i < used.size(); ++i) {
    require(used[i], "{}: no matrix is called {}, which an override is for", source.path(),
            options.overrides[i].pattern);
  }
  constexpr std::string_view kFileType = "general.file_type";
  plan.file_type = mix != nullptr                     ? mix->file_type
                   : source.metadata().has(kFileType) ? static_cast<uint32_t>(source.metadata().integer(kFileType))
                                                      : dominant_file_type(plan);
  return plan;
}

}  // namespace weft
