#include "ops/rope.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

constexpr float kC = 0.54030231f, kS = 0.84147098f;  // of 1 radian

TEST(Rope, HalfPairsAndTheRestPassesThrough) {
  OpGraph g;
  const Value x = g.f32({2, 1, 3}, {1, 2, 9, 1, 2, 9}, Rows::tokens);
  const Value y = rope({Rotary::half, 2, 10000, 1}, x, g.i32({2}, {0, 1}), {});
  EXPECT_EQ(y.type(), x.type());
  expect_near(g.run(y), {1, 2, 9, kC - 2 * kS, 2 * kC + kS, 9});
}

TEST(Rope, PairsOfBothStyles) {
  OpGraph g;
  const Value x = g.f32({1, 1, 4}, {1, 2, 3, 4}), position = g.i32({1}, {1});
  const float c = std::cos(0.01f), s = std::sin(0.01f);  // the second pair: 10000^(-1/2)
  expect_near(g.run(rope({Rotary::half, 4, 10000, 1}, x, position, {})),
              {kC - 3 * kS, 2 * c - 4 * s, 3 * kC + kS, 4 * c + 2 * s});
  expect_near(g.run(rope({Rotary::interleaved, 4, 10000, 1}, x, position, {})),
              {kC - 2 * kS, 2 * kC + kS, 3 * c - 4 * s, 4 * c + 3 * s});
}

TEST(Rope, FactorsDivideTheFrequencyAndScaleMultiplies) {
  OpGraph g;
  const Value x = g.f32({1, 2, 2}, {1, 2, 3, 4}), position = g.i32({1}, {4}), factors = g.f32({1}, {4});
  expect_near(g.run(rope({Rotary::half, 2, 10000, 0.5f}, x, position, factors)),
              {(kC - 2 * kS) / 2, (2 * kC + kS) / 2, (3 * kC - 4 * kS) / 2, (4 * kC + 3 * kS) / 2});
}

TEST(Rope, Errors) {
  OpGraph g;
  const Value x = g.random({2, 1, 4}), positions = g.i32({2}, {});
  EXPECT_ERROR(rope({Rotary::none, 4, 1, 1}, x, positions, {}), "rope: a rope needs a rotary style");
  EXPECT_ERROR(rope({Rotary::half, 6, 1, 1}, x, positions, {}), "must be even, more than 0 and at most 4, given 6");
  EXPECT_ERROR(rope({Rotary::half, 4, 1, 1}, x, positions, g.random({4})), "factors must be f32[2], given f32[4]");
}

}  // namespace
}  // namespace weft
