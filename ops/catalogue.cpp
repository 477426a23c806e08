#include "ops/catalogue.h"

#include <algorithm>

#include "ops/all.h"

namespace weft {

// Ops whose header says `extern template`: quick to include, compiled here.
template const Schema& schema_of<Embedding>();
template const Schema& schema_of<QkvGemm>();
template const Schema& schema_of<SoftmaxContext>();
template const Schema& schema_of<VectorMatmul>();
template const Schema& schema_of<Linear>();
template const Schema& schema_of<MlpGemm>();
template const Schema& schema_of<GeluGemm>();
template const Schema& schema_of<ResidualAdd>();
template const Schema& schema_of<MoeRoute>();
template const Schema& schema_of<MoeExperts>();
template const Schema& schema_of<LayerNorm>();
template const Schema& schema_of<RmsNorm>();
template const Schema& schema_of<Softmax>();
template const Schema& schema_of<Rope>();
template const Schema& schema_of<Activate>();

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
