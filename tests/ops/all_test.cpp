#include "ops/all.h"

#include <gtest/gtest.h>

#include <set>

#include "backends/ref/primitives.h"
#include "ops/norm.h"

namespace weft {
namespace {

TEST(AllOps, NamesAreUniqueAndFound) {
  std::set<std::string_view> names;
  for (const Schema* schema : all_schemas()) {
    EXPECT_TRUE(names.insert(schema->name).second) << schema->name << " is listed twice";
    EXPECT_EQ(find_schema(schema->name), schema);
    EXPECT_FALSE(schema->doc.empty()) << schema->name;
    EXPECT_FALSE(schema->outputs.empty()) << schema->name;
  }
  EXPECT_EQ(find_schema("gelu"), nullptr);
}

TEST(AllOps, PrimitivesAreWhatRefRuns) {
  for (const Schema* schema : all_schemas()) {
    EXPECT_EQ(schema->primitive(), ref::find_primitive(schema->name) != nullptr) << schema->name;
  }
  EXPECT_EQ(ref::primitives().size(), static_cast<size_t>(std::ranges::count_if(all_schemas(), &Schema::primitive)));
}

TEST(AllOps, NormKindsReadBothWays) {
  for (const auto& [kind, name] : kNormKinds) EXPECT_EQ(parse_norm_kind(name), kind);
}

}  // namespace
}  // namespace weft
