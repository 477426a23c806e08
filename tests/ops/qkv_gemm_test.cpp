#include "ops/qkv_gemm.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(QkvGemm, ReturnsProjectionAndNorm) {
  OpGraph g;
  const Value x = g.f32({1, 2}, {1, 3}, Rows::tokens), gamma = g.f32({2}, {2, 4}), beta = g.f32({2}, {0, 1});
  const Value weight = g.f32({1, 2}, {10, 1}), bias = g.f32({1}, {100});
  const auto layer = build(QkvGemm{NormKind::layer, 3}, {x, weight, bias, gamma, beta});
  EXPECT_EQ(layer[0].type(), f32_type({1, 1}, Rows::tokens));
  const auto out = g.run(layer);  // variance 1: normalized -1/2, 1/2
  expect_near(out[1], {-1, 3});
  expect_near(out[0], {93});
  const auto rms = g.run(build(QkvGemm{NormKind::rms, 4}, {x, weight, {}, gamma, {}}));  // mean square 5: over 3
  expect_near(rms[1], {2.0f / 3, 4});
  expect_near(rms[0], {20.0f / 3 + 4});
}

TEST(QkvGemm, Errors) {
  OpGraph g;
  const Value x = g.random({1, 5}), gamma = g.random({5});
  EXPECT_ERROR(build(QkvGemm{}, {x, g.random({2, 4}), {}, gamma}), "qkv_gemm: weight has 4 columns, x has 5");
  EXPECT_ERROR(build(QkvGemm{}, {x, g.random({2, 5}), {}, {}}), "qkv_gemm: input gamma is missing");
  EXPECT_ERROR(build(QkvGemm{NormKind::rms, 0}, {x, g.random({2, 5}), {}, gamma, gamma}), "RMSNorm takes no beta");
  EXPECT_ERROR(build(QkvGemm{}, {g.i32({1, 5}, {}), g.random({2, 5}), {}, gamma}), "x must be f32, given i32[1, 5]");
}

}  // namespace
}  // namespace weft
