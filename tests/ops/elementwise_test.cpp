#include "ops/elementwise.h"

#include "ops/movement.h"
#include "ops/quant/all.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(Elementwise, UnaryFunctions) {
  OpGraph g;
  const Value x = g.f32({2, 2}, {-1.5f, 0.25f, 1, 4});
  const auto out = g.run({neg(x), exp(x), tanh(x), erf(x), sin(x), cos(x), floor(x), abs(x), reciprocal(x)});
  expect_near(out[0], {1.5f, -0.25f, -1, -4});
  expect_near(out[1], {0.22313016f, 1.2840254f, 2.7182818f, 54.598150f});
  expect_near(out[2], {-0.90514825f, 0.24491866f, 0.76159416f, 0.99932930f});
  expect_near(out[3], {-0.96610515f, 0.27632639f, 0.84270079f, 0.99999998f});
  expect_near(out[4], {-0.99749499f, 0.24740396f, 0.84147098f, -0.75680250f});
  expect_near(out[5], {0.070737202f, 0.96891242f, 0.54030231f, -0.65364362f});
  expect_near(out[6], {-2, 0, 1, 4});
  expect_near(out[7], {1.5f, 0.25f, 1, 4});
  expect_near(out[8], {-2.0f / 3, 4, 1, 0.25f});
  const Value positive = g.f32({2}, {4, 2});
  expect_near(g.run(sqrt(positive)), {2, 1.4142136f});
  expect_near(g.run(log(positive)), {1.3862944f, 0.69314718f});
}

TEST(Elementwise, BinaryFunctions) {
  OpGraph g;
  const Value a = g.f32({3}, {1, -2, 3}), b = g.f32({3}, {2, -2, 0.5f});
  const auto out =
      g.run({add(a, b), sub(a, b), mul(a, b), div(a, b), maximum(a, b), minimum(a, b), less(a, b), equal(a, b)});
  expect_near(out[0], {3, -4, 3.5f});
  expect_near(out[1], {-1, 0, 2.5f});
  expect_near(out[2], {2, 4, 1.5f});
  expect_near(out[3], {0.5f, 1, 6});
  expect_near(out[4], {2, -2, 3});
  expect_near(out[5], {1, -2, 0.5f});
  expect_near(out[6], {1, 0, 0});
  expect_near(out[7], {0, 1, 0});
}

TEST(Elementwise, BroadcastsFromTheLastDimension) {
  OpGraph g;
  const Value row = g.f32({3}, {1, 2, 3}), column = g.f32({2, 1}, {10, 20}),
              block = g.f32({2, 1, 3}, {0, 0, 0, 5, 5, 5});
  const Value sum = add(row, column);
  EXPECT_EQ(sum.type().shape, (Shape{2, 3}));
  expect_near(g.run(sum), {11, 12, 13, 21, 22, 23});
  const Value all = add(block, column);
  EXPECT_EQ(all.type().shape, (Shape{2, 2, 3}));
  expect_near(g.run(all), {10, 10, 10, 20, 20, 20, 15, 15, 15, 25, 25, 25});
  EXPECT_ERROR(add(row, g.f32({2}, {1, 2})), "add: [2] does not broadcast with [3]");
  EXPECT_ERROR(add(row, g.i32({3}, {1, 2, 3})), "an input must be f32, given i32[3]");
}

TEST(Elementwise, RowsFollowTheLeadingDimension) {
  OpGraph g;
  const Value tokens = g.f32({3, 1}, {1, 2, 3}, Rows::tokens), all = g.f32({3, 2}, {1, 1, 1, 1, 1, 1});
  EXPECT_EQ(add(all, tokens).type().rows, Rows::tokens);
  EXPECT_EQ(add(reshape(tokens, {3}), all.graph->input("other", f32_type({2, 3}))).type().rows, Rows::all);
  EXPECT_ERROR(add(tokens, g.f32({3, 1}, {}, Rows::logits)), "rows of tokens cannot meet rows of logits");
}

TEST(Elementwise, OnlyLiveRowsAreComputed) {
  OpGraph g;
  g.live.tokens = 1;
  const auto out = g.run(neg(g.f32({2, 2}, {1, 2, 3, 4}, Rows::tokens)));
  EXPECT_EQ(out[1], -2);
  EXPECT_TRUE(std::isnan(out[2])) << "a dead row was written";
}

TEST(Elementwise, SelectPassesNoNan) {
  OpGraph g;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  expect_near(g.run(select(g.f32({2}, {1, 0}), g.f32({2}, {7, nan}), g.f32({1}, {3}))), {7, 3});
}

TEST(Elementwise, CastsBothWays) {
  OpGraph g;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  expect_near(g.run(cast(g.i32({3}, {-2, 0, 7}), quant::f32)), {-2, 0, 7});
  const auto ids = g.run(cast(g.f32({5}, {-2.9f, 2.9f, nan, 1e20f, -1e20f}), quant::i32));
  EXPECT_EQ(ids, (std::vector<float>{-2, 2, 0, 2147483648.0f, -2147483648.0f}));
  const Value half = cast(g.f32({2, 2}, {1, 1.0009765625f, 65519, 1e-8f}), quant::f16);
  EXPECT_EQ(g.run(cast(half, quant::f32)), (std::vector<float>{1, 1.0009765625f, 65504, 0}));
  const Value brain = cast(g.f32({2}, {1.00390625f, 3}), quant::bf16);
  EXPECT_EQ(g.run(cast(brain, quant::f32)), (std::vector<float>{1, 3})) << "ties go to even";
  EXPECT_ERROR(cast(half, quant::i32), "cannot cast f16[2, 2] to i32");
  EXPECT_FALSE(schema_of<Cast>().foldable) << "folding would keep decoded weights";
}

TEST(Elementwise, Constants) {
  OpGraph g;
  expect_near(g.run(constant(g.graph, {1, 2, 3, 4}, {2, 2})), {1, 2, 3, 4});
  EXPECT_ERROR(constant(g.graph, {1, 2}, {3}), "2 values cannot have the shape [3]");
  const Node& node = g.graph.node(0);
  EXPECT_EQ(node.op->attributes(node.attrs.get()), "values=[1, 2, 3, 4], shape=[2, 2]");
}

}  // namespace
}  // namespace weft
