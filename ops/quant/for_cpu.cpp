#include "ops/quant/for_cpu.h"

// quant/find.cpp a second time, compiled with -mavx2 and under another name: see ops/CMakeLists.txt.
namespace weft::quant_avx2 {
DType find(uint32_t gguf_id);
}

namespace weft::quant {

const TypeTraits& for_this_cpu(DType type) {
  static const bool has_avx2 = __builtin_cpu_supports("avx2");
  const DType fast = has_avx2 ? quant_avx2::find(type->id) : DType();
  return fast ? *fast : *type;
}

}  // namespace weft::quant
