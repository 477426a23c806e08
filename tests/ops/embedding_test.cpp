#include "ops/embedding.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(Embedding, ScalesTokensAndOffsetsPositions) {
  OpGraph g;
  const Value ids = g.i32({3}, {1, 0, 9}, Rows::tokens), table = g.f32({2, 2}, {1, 2, 3, 4});
  const Value positions = g.i32({3}, {0, 1, 5}, Rows::tokens), places = g.f32({4, 2}, {0, 0, 0, 0, 10, 20, 30, 40});
  const Embedding op{.position_offset = 2, .scale = 3};
  const Value y = build(op, {ids, table, positions, places})[0];
  EXPECT_EQ(y.type(), f32_type({3, 2}, Rows::tokens));
  expect_near(g.run(y), {19, 32, 33, 46, 0, 0});
  expect_near(g.run(build(Embedding{}, {ids, table})[0]), {3, 4, 1, 2, 0, 0});
}

TEST(Embedding, Errors) {
  OpGraph g;
  const Value ids = g.i32({3}, {}), table = g.random({2, 4});
  EXPECT_ERROR(build(Embedding{}, {ids, table, ids}), "embedding: positions and position_table come together");
  EXPECT_ERROR(build(Embedding{}, {ids, table, ids, g.random({2, 3})}), "position_table has 3 columns, table has 4");
}

}  // namespace
}  // namespace weft
