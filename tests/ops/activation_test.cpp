#include "ops/activation.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(Activation, NamesReadBothWays) {
  for (const auto& [activation, name] : kActivations) EXPECT_EQ(parse_activation(to_string(activation)), activation);
  EXPECT_ERROR(parse_activation("gelu"), "no activation is called gelu: there are gelu_tanh, gelu_erf, relu");
  EXPECT_FALSE(is_gated(Activation::silu));
  EXPECT_TRUE(is_gated(Activation::gated_gelu_tanh));
  EXPECT_TRUE(is_gated(Activation::gated_swiglu_clamped));
}

TEST(Activation, Values) {
  OpGraph g;
  const Value x = g.f32({4}, {-100, -1, 0.5f, 2});
  expect_near(g.run(activate(Activation::gelu_tanh, x)), {0, -0.15880801f, 0.34571401f, 1.9545977f});
  expect_near(g.run(activate(Activation::gelu_erf, x)), {0, -0.15865525f, 0.34573123f, 1.9544997f});
  expect_near(g.run(activate(Activation::relu, x)), {0, 0, 0.5f, 2});
  expect_near(g.run(activate(Activation::silu, x)), {0, -0.26894142f, 0.31122967f, 1.7615942f});
}

TEST(Activation, GatedIsTheActivationOfTheGateTimesUp) {
  OpGraph g;
  const Value up = g.f32({3}, {3, -2, 10}), gate = g.f32({3}, {-1, 0.5f, 2});
  expect_near(g.run(activate(Activation::gated_gelu_tanh, up, gate)), {-0.47642403f, -0.69142802f, 19.545977f});
  expect_near(g.run(activate(Activation::gated_gelu_erf, up, gate)), {-0.47596575f, -0.69146246f, 19.544997f});
  expect_near(g.run(activate(Activation::gated_relu, up, gate)), {0, -1, 20});
  expect_near(g.run(activate(Activation::gated_silu, up, gate)), {-0.80682426f, -0.62245934f, 17.615942f});
}

TEST(Activation, ClampedSwiglu) {
  OpGraph g;
  const Value up = g.f32({3}, {-9, 0.5f, 9}),
              gate = g.f32({3}, {1, -20, 20});  // limit 7: up -7, 0.5, 7; gate 1, -20, 7
  const auto swish = [](double x) { return static_cast<float>(x / (1 + std::exp(-1.702 * x))); };
  expect_near(g.run(activate(Activation::gated_swiglu_clamped, up, gate)),
              {-6 * swish(1), 1.5f * swish(-20), 8 * swish(7)});
}

TEST(Activation, Errors) {
  OpGraph g;
  const Value x = g.random({2, 3});
  EXPECT_ERROR(activate(Activation::silu, x, x), "activate: silu takes no gate");
  EXPECT_ERROR(activate(Activation::gated_silu, x), "activate: gated_silu needs a gate");
  EXPECT_ERROR(activate(Activation::gated_silu, x, g.random({2, 4})), "gate must be f32[2, 3], given f32[2, 4]");
}

}  // namespace
}  // namespace weft
