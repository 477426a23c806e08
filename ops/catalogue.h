// The ops by name. The list itself is ops/all.h; this header spares its readers every op.
#pragma once

#include <span>
#include <string_view>

#include "graph/schema.h"

namespace weft {

/// Every op of weft: fused, composite, primitive, in the order of ops/all.h.
std::span<const Schema* const> all_schemas();

/// Null if no op has that name.
const Schema* find_schema(std::string_view name);

}  // namespace weft
