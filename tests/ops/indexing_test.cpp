#include "ops/indexing.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(Indexing, GatherRowsReadsNothingOutOfRange) {
  OpGraph g;
  const Value ids = g.i32({4}, {2, -1, 0, 3}, Rows::tokens);
  const Value y = gather_rows(g.f32({3, 2}, {1, 2, 3, 4, 5, 6}), ids);
  EXPECT_EQ(y.type(), f32_type({4, 2}, Rows::tokens));
  expect_near(g.run(y), {5, 6, 0, 0, 1, 2, 0, 0});
  EXPECT_ERROR(gather_rows(g.random({3, 2}), g.random({4})), "gather_rows: ids must be i32[4], given f32[4]");
}

TEST(Indexing, Iota) {
  OpGraph g;
  expect_near(g.run(iota(g.graph, 4)), {0, 1, 2, 3});
  EXPECT_ERROR(iota(g.graph, (int64_t{1} << 24) + 1), "f32 counts exactly from 0 to 2^24");
}

}  // namespace
}  // namespace weft
