#include "ops/quant/find.h"

#include <algorithm>

#include "ops/quant/all.h"

namespace weft::quant {

std::span<const TypeTraits* const> all_types() { return kAllTypes; }

DType find(std::string_view name) {
  const auto it = std::ranges::find(kAllTypes, name, &TypeTraits::name);
  return it == kAllTypes.end() ? DType{} : DType(**it);
}

DType find(uint32_t gguf_id) {
  const auto it = std::ranges::find(kAllTypes, gguf_id, &TypeTraits::id);
  return it == kAllTypes.end() ? DType{} : DType(**it);
}

}  // namespace weft::quant
