#include "ops/residual_add.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

class ResidualAddTest : public ::testing::Test {
 protected:
  /// With hidden 1, residual 10, attention 100, attention_bias 1000, final_bias 10000.
  std::vector<float> run(ResidualAdd op) {
    return g.run(build(op, {of({1, 1}, 1), of({1, 1}, 10), of({1, 1}, 100), of({1}, 1000), of({1}, 10000)})[0]);
  }
  Value of(Shape shape, float value) { return g.f32(shape, {value}); }
  OpGraph g;
};

TEST_F(ResidualAddTest, AllForms) {
  expect_near(run({.mlp_after_attn = true, .pre_layer_norm = true, .mp_size = 1}), {11111});
  expect_near(run({.mlp_after_attn = true, .pre_layer_norm = true, .mp_size = 2}), {5556});
  expect_near(run({.mlp_after_attn = true, .pre_layer_norm = false, .mp_size = 2}), {10011});
  expect_near(run({.mlp_after_attn = false, .pre_layer_norm = true, .mp_size = 2}), {5606});
  expect_near(run({.mlp_after_attn = false, .pre_layer_norm = false, .mp_size = 2}), {5606});
}

TEST_F(ResidualAddTest, AbsentTermsAreZero) {
  expect_near(g.run(build(ResidualAdd{}, {of({1, 1}, 1), of({1, 1}, 10)})[0]), {11});
  const Value last = of({1}, 10000);
  expect_near(g.run(build(ResidualAdd{}, {of({1, 1}, 1), of({1, 1}, 10), {}, {}, last})[0]), {10011});
  expect_near(g.run(build(ResidualAdd{.mlp_after_attn = false}, {of({1, 1}, 1), of({1, 1}, 10)})[0]), {11});
}

TEST_F(ResidualAddTest, Errors) {
  EXPECT_ERROR(build(ResidualAdd{}, {of({1, 1}, 1), g.random({1, 2})}), "residual must be f32[1, 1], given f32[1, 2]");
  EXPECT_ERROR(run({.mp_size = 0}), "mp_size must be at least 1, given 0");
}

}  // namespace
}  // namespace weft
