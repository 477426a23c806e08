#include "ops/layer_norm.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(LayerNorm, BiasedVariance) {
  OpGraph g;
  const Value x = g.f32({2, 2}, {1, 3, -2, -2}, Rows::tokens), gamma = g.f32({2}, {2, 3}), beta = g.f32({2}, {0.5f, 1});
  const Value y = layer_norm(x, gamma, beta, 0.0f);
  EXPECT_EQ(y.type(), x.type());
  expect_near(g.run(layer_norm(x, gamma, beta, 3.0f)), {-0.5f, 2.5f, 0.5f, 1});  // variances 1 and 0
  expect_near(g.run(layer_norm(x, gamma, {}, 3.0f)), {-1, 1.5f, 0, 0});
}

TEST(LayerNorm, Errors) {
  OpGraph g;
  const Value x = g.random({2, 4});
  EXPECT_ERROR(layer_norm(x, g.random({3}), {}, 1e-5f), "layer_norm: gamma must be f32[4], given f32[3]");
  EXPECT_ERROR(layer_norm(x, g.random({4}), g.random({1, 4}), 1e-5f), "beta must be f32[4], given f32[1, 4]");
}

}  // namespace
}  // namespace weft
