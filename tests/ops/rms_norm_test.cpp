#include "ops/rms_norm.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(RmsNorm, OverTheLastDimension) {
  OpGraph g;
  const Value x = g.f32({1, 2, 2}, {1, 7, 3, 4}), gamma = g.f32({2}, {2, 10});
  const float a = 1 / std::sqrt(26.0f), b = 1 / std::sqrt(13.5f);  // mean squares 25 and 12.5
  expect_near(g.run(rms_norm(x, gamma, 1)), {2 * a, 70 * a, 6 * b, 40 * b});
}

TEST(RmsNorm, Errors) {
  OpGraph g;
  EXPECT_ERROR(rms_norm(g.random({2, 4}), g.random({3}), 1e-5f), "rms_norm: gamma must be f32[4], given f32[3]");
}

}  // namespace
}  // namespace weft
