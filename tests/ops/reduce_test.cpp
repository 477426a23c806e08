#include "ops/reduce.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(Reduce, SumAndMaxOfRows) {
  OpGraph g;
  const Value x = g.f32({2, 3}, {1, 2, 3, -5, -4, -6});
  EXPECT_EQ(reduce_sum(x).type().shape, (Shape{2, 1}));
  expect_near(g.run(reduce_sum(x)), {6, -15});
  expect_near(g.run(reduce_max(x)), {3, -4});
  expect_near(g.run(reduce_sum(g.f32({3}, {1, 2, 3}))), {6});
}

TEST(Reduce, SumsInF64) {
  OpGraph g;
  std::vector<float> values(10001, 1e-4f);
  values[0] = 1e4f;
  expect_near(g.run(reduce_sum(g.f32({1, 10001}, values))), {10001}, 1e-7);
}

TEST(Reduce, TopKDescendsAndBreaksTiesByIndex) {
  OpGraph g;
  const auto [values, ids] = top_k(g.f32({2, 4}, {1, 5, 5, 3, -1, -2, -1, -9}), 3);
  const auto out = g.run({values, ids});
  expect_near(out[0], {5, 5, 3, -1, -1, -2});
  expect_near(out[1], {1, 2, 3, 0, 2, 1});
}

TEST(Reduce, TopKOfNanStaysInRange) {
  OpGraph g;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  expect_near(g.run(top_k(g.f32({1, 3}, {nan, nan, nan}), 2).second), {0, 1});
}

TEST(Reduce, Errors) {
  OpGraph g;
  EXPECT_ERROR(reduce_sum(g.f32({2, 0}, {})), "reduce_sum: x must have a last dimension to reduce, given f32[2, 0]");
  EXPECT_ERROR(top_k(g.f32({2, 3}, {}), 4), "top_k: cannot take the 4 largest of f32[2, 3]");
}

}  // namespace
}  // namespace weft
