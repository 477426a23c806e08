#include "ops/gelu_gemm.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(GeluGemm, PlainAndGated) {
  OpGraph g;
  const Value x = g.f32({1, 2}, {1, -2}), eye = g.f32({2, 2}, {1, 0, 0, 1}), out = g.f32({1, 2}, {10, 100});
  expect_near(g.run(gelu_gemm(Activation::relu, x, {eye}, {g.f32({2}, {0, 3})}, {out})), {110});
  // up = (1, -2), gate = (3, 3): up comes first
  const Value stacked = g.f32({4, 2}, {1, 0, 0, 1, 1, -1, 1, -1}), gate = g.f32({2, 2}, {1, -1, 1, -1});
  expect_near(g.run(gelu_gemm(Activation::gated_relu, x, {stacked}, {}, {out})), {30 - 600});
  expect_near(g.run(gelu_gemm(Activation::gated_relu, x, {eye, gate}, {}, {out})), {30 - 600});
}

TEST(GeluGemm, Errors) {
  OpGraph g;
  const Value x = g.random({1, 2}), w = g.random({3, 2});
  EXPECT_ERROR(gelu_gemm(Activation::relu, x, {w}, {}, {g.random({2, 2})}),
               "gelu_gemm: weight_out has 2 columns, the activation has 3");
  EXPECT_ERROR(gelu_gemm(Activation::gated_silu, x, {w}, {}, {w}),
               "gated_silu needs as many up rows as gate rows, given 3");
  EXPECT_ERROR(gelu_gemm(Activation::gated_swiglu_clamped, x, {w}, {}, {w}), "belongs to moe_experts");
}

}  // namespace
}  // namespace weft
