// The weight formats by name and by GGUF id. The table itself is ops/quant/all.h; this header spares its readers the
// encoders.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "graph/dtype.h"

namespace weft::quant {

std::span<const TypeTraits* const> all_types();

/// The empty DType if there is none of that name or id.
DType find(std::string_view name);
DType find(uint32_t gguf_id);

}  // namespace weft::quant
