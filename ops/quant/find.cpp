#include "ops/quant/find.h"

#include "ops/quant/all.h"

namespace weft::quant {

std::span<const TypeTraits* const> all_types() { return kAllTypes; }

// Loops, not std::ranges::find: compiled for AVX2 too, where its function object would be a weak symbol
// (CMakeLists.txt).
DType find(std::string_view name) {
  for (const TypeTraits* type : kAllTypes) {
    if (type->name == name) return DType(*type);
  }
  return {};
}

DType find(uint32_t gguf_id) {
  for (const TypeTraits* type : kAllTypes) {
    if (type->id == gguf_id) return DType(*type);
  }
  return {};
}

}  // namespace weft::quant
