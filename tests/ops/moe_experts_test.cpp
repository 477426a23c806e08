#include "ops/moe_experts.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(MoeExperts, WeighsTheMlpsOfTheChosenExperts) {
  OpGraph g;
  g.live.tokens = 2;
  const Value x = g.f32({3, 1}, {1, 2, 5}, Rows::tokens), ids = g.i32({3, 2}, {0, 1, 1, 9}, Rows::tokens);
  const Value weights = g.f32({3, 2}, {0.5f, 2, 3, 1}, Rows::tokens);
  const Value up = g.f32({2, 1, 1}, {1, 2}), gate = g.f32({2, 1, 1}, {3, 4}), down = g.f32({2, 1, 1}, {10, 100});
  const Value bias_up = g.f32({2, 1}, {1, 0}), bias_gate = g.f32({2, 1}, {0, 1}), bias_down = g.f32({2, 1}, {7, 8});
  const MoeExperts op{.activation = Activation::gated_relu};
  const Value plain = build(op, {x, ids, weights, up, gate, down})[0];
  EXPECT_EQ(plain.type(), f32_type({3, 1}, Rows::tokens));
  // token 0: 0.5 * 10 * 1 * 3 + 2 * 100 * 2 * 4; token 1: 3 * 100 * 4 * 8, and an expert out of range
  auto out = g.run(plain);
  expect_near({out[0], out[1]}, {1615, 9600});
  // token 0: 0.5 * (10 * 2 * 3 + 7) + 2 * (100 * 2 * 5 + 8); token 1: 3 * (100 * 4 * 9 + 8)
  out = g.run(build(op, {x, ids, weights, up, gate, down, bias_up, bias_gate, bias_down})[0]);
  expect_near({out[0], out[1]}, {33.5f + 2016, 10824});
}

TEST(MoeExperts, CostReadsTheExpertsThatArePicked) {
  const Types in = {f32_type({8, 4}, Rows::tokens), i32_type({8, 2}),     f32_type({8, 2}),
                    f32_type({16, 3, 4}),           f32_type({16, 3, 4}), f32_type({16, 4, 3})};
  const MoeExperts op;
  EXPECT_EQ(op.cost(in, op.infer(in), {.tokens = 1}).weight_bytes, 2 * 3 * 3 * 4 * 4);
  EXPECT_EQ(op.cost(in, op.infer(in), {.tokens = 8}).weight_bytes, 16 * 3 * 3 * 4 * 4);
}

TEST(MoeExperts, Errors) {
  OpGraph g;
  const Value x = g.random({3, 4}), ids = g.i32({3, 2}, {}), weights = g.random({3, 2}), up = g.random({2, 5, 4});
  EXPECT_ERROR(build(MoeExperts{}, {x, ids, weights, up, up, up}), "weight_down must be [2, 4, 5], given f32[2, 5, 4]");
  EXPECT_ERROR(build(MoeExperts{.activation = Activation::silu}, {x, ids, weights, up, up, up}),
               "must be gated, given silu");
}

}  // namespace
}  // namespace weft
