#include "ops/mlp_gemm.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(MlpGemm, SecondOutputDependsOnTheNorm) {
  OpGraph g;
  const Value input = g.f32({1, 2}, {0, 1}, Rows::tokens), residual = g.f32({1, 2}, {1, 1}), bias = g.f32({2}, {0, 1});
  const Value gamma = g.f32({2}, {2, 4}), eye = g.f32({2, 2}, {1, 0, 0, 1});
  const Values in = {input, residual, bias, gamma, {}, eye, {}, eye};  // s = (1, 3)
  const auto layer = build(MlpGemm{NormKind::layer, 3, Activation::relu}, in);
  EXPECT_EQ(layer[0].type(), f32_type({1, 2}, Rows::tokens));
  const auto of_layer = g.run(layer);
  expect_near(of_layer[0], {0, 2});
  expect_near(of_layer[1], {-1, 2});
  const auto of_rms = g.run(build(MlpGemm{NormKind::rms, 4, Activation::relu}, in));
  expect_near(of_rms[0], {2.0f / 3, 4});
  expect_near(of_rms[1], {1, 3});
}

TEST(MlpGemm, Errors) {
  OpGraph g;
  const Value x = g.random({1, 2}), gamma = g.random({2}), w = g.random({3, 2});
  const auto with = [&](Value residual, Value w1, Value w2) {
    return build(MlpGemm{}, {x, residual, {}, gamma, {}, w1, {}, w2});
  };
  EXPECT_ERROR(with(g.random({2, 2}), w, w), "mlp_gemm: residual must be f32[1, 2], given f32[2, 2]");
  EXPECT_ERROR(with(x, g.random({3, 4}), w), "mlp_gemm: weight_interm has 4 columns, input has 2");
  EXPECT_ERROR(with(x, w, g.random({5, 3})), "mlp_gemm: weight_out has 5 rows, input has 2 columns");
}

}  // namespace
}  // namespace weft
