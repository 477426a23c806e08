#include "ops/vector_matmul.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(VectorMatmul, NeitherBiasNorResidual) {
  OpGraph g;
  const Value x = g.f32({1, 2}, {1, 2});
  expect_near(g.run(vector_matmul(x, {g.f32({1, 2}, {3, 4}), g.f32({1, 2}, {5, 6})})), {11, 17});
  EXPECT_ERROR(vector_matmul(x, {g.random({1, 3})}), "vector_matmul: weight has 3 columns, x has 2");
}

}  // namespace
}  // namespace weft
