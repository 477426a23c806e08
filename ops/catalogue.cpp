#include "ops/catalogue.h"

#include <algorithm>

#include "ops/all.h"

namespace weft {
namespace {

template <typename... Ops>
std::span<const Schema* const> schemas_of(TypeList<Ops...>) {
  static const std::array<const Schema*, sizeof...(Ops)> schemas = {&schema_of<Ops>()...};
  return schemas;
}

}  // namespace

std::span<const Schema* const> all_schemas() { return schemas_of(AllOps{}); }

const Schema* find_schema(std::string_view name) {
  const auto schemas = all_schemas();
  const auto it = std::ranges::find(schemas, name, &Schema::name);
  return it == schemas.end() ? nullptr : *it;
}

}  // namespace weft
