#include "ops/softmax.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(Softmax, RowsSumToOneAndDoNotOverflow) {
  OpGraph g;
  const Value x = g.f32({2, 2}, {1000, 1000 + std::log(3.0f), -5, -5}, Rows::tokens);
  EXPECT_EQ(softmax(x).type(), x.type());
  expect_near(g.run(softmax(x)), {0.25f, 0.75f, 0.5f, 0.5f}, 1e-4);
  EXPECT_ERROR(softmax(g.random({2, 0})), "softmax: x must have a last dimension, given f32[2, 0]");
}

}  // namespace
}  // namespace weft
