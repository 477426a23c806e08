#include "ops/linear.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(Linear, BiasWholeByBlockOrAbsent) {
  OpGraph g;
  const Value x = g.f32({2, 2}, {1, 2, 3, 4}, Rows::tokens), a = g.f32({1, 2}, {1, 1}), b = g.f32({2, 2}, {1, 0, 0, 1});
  const Value whole = g.f32({3}, {10, 20, 30}), first = g.f32({1}, {10}), second = g.f32({2}, {20, 30});
  EXPECT_EQ(linear(x, {a, b}, {}).type(), f32_type({2, 3}, Rows::tokens));
  expect_near(g.run(linear(x, {a, b}, {})), {3, 1, 2, 7, 3, 4});
  expect_near(g.run(linear(x, {a, b}, {whole})), {13, 21, 32, 17, 23, 34});
  expect_near(g.run(linear(x, {a, b}, {first, second})), {13, 21, 32, 17, 23, 34});
}

TEST(Linear, Errors) {
  OpGraph g;
  const Value x = g.random({2, 4}), w = g.random({3, 4});
  EXPECT_ERROR(linear(x, {w, g.random({3, 5})}, {}), "linear: weight has 5 columns, x has 4");
  EXPECT_ERROR(linear(x, {w}, {g.random({4})}), "linear: bias has 4 elements, the weight has 3 rows");
  EXPECT_ERROR(linear(g.random({4}), {w}, {}), "linear: x must have 2 dimensions, given f32[4]");
}

}  // namespace
}  // namespace weft
