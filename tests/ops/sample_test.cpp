#include "ops/sample.h"

#include "tests/support/sample_rows.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;
using testing::SampleRows;

/// A row of three candidates, of ids 4, 9 and 2.
std::vector<float> sampled(const std::vector<float>& values, const std::vector<float>& options,
                           const std::vector<int32_t>& draws, int32_t fed = -1, int32_t recent = -1) {
  OpGraph g;
  return g.run(build(Sample{}, {g.f32({1, 3}, values), g.i32({1, 3}, {4, 9, 2}), g.i32({1}, {fed}),
                                g.i32({1, 2}, {recent, -1}), g.f32({1, 4}, options), g.i32({1, 3}, draws)})[0]);
}

TEST(SampleOp, DrawsInTheOrderOfIds) {
  const std::vector<float> equal = {1, 1, 1}, all = {1, 1, 0, 1};
  constexpr int32_t bits = 1 << 26;
  expect_near(sampled(equal, all, {0, 0, 0}), {2});
  expect_near(sampled(equal, all, {0, bits / 3 - 1, 0}), {2});
  expect_near(sampled(equal, all, {0, bits / 2, 0}), {4});
  expect_near(sampled(equal, all, {0, bits - 1, 0}), {9});
  expect_near(sampled(equal, all, {1, bits - 1, 0}), {2});
  expect_near(sampled(equal, all, {2, bits - 1, 0}), {4});
  expect_near(sampled(equal, {0, 1, 0, 1}, {2, bits - 1, 0}), {2});
}

TEST(SampleOp, PenaltiesChangeTheOrder) {
  const std::vector<float> greedy = {0, 1, 0, 2};
  expect_near(sampled({3, 2, 1}, greedy, {0, 0, 0}), {4});
  expect_near(sampled({3, 2, 1}, greedy, {0, 0, 0}, 4), {9});
  expect_near(sampled({3, 2, 1}, greedy, {0, 0, 0}, 4, 4), {9});
  expect_near(sampled({3, 2, 1.6f}, greedy, {0, 0, 0}, 4, 9), {2});
  expect_near(sampled({-1, -3, -4}, greedy, {0, 0, 0}, 9, 4), {4});
}

TEST(SampleOp, IsWhatTheSamplerDraws) {
  int some = 0;
  for (unsigned seed = 0; seed < 12; ++seed) {
    const SampleRows rows(24, seed % 3 == 0 ? 50 : 300, seed, /*coarse=*/true);
    OpGraph g;
    g.live = {24, 24};
    const auto got = g.run(rows.add(g));
    ASSERT_EQ(got.size(), rows.expected.size());
    for (size_t r = 0; r < got.size(); ++r) {
      EXPECT_EQ(static_cast<int32_t>(got[r]), rows.expected[r]) << "seed " << seed << ", row " << r;
      some += rows.expected[r] >= 0 ? 1 : 0;
    }
  }
  EXPECT_GT(some, 200) << "rows without any logit are few";
}

TEST(SampleOp, Errors) {
  OpGraph g;
  const auto build_with = [&](Value tokens, Value draws) {
    return build(Sample{},
                 {g.random({2, 3}), tokens, g.i32({2}, {0, 0}), g.i32({2, 1}, {0, 0}), g.random({2, 4}), draws});
  };
  const Value draws = g.i32({2, 3}, std::vector<int32_t>(6)), tokens = g.i32({2, 3}, std::vector<int32_t>(6));
  EXPECT_ERROR(build_with(g.random({2, 3}), draws), "tokens must be i32[2, 3]");
  EXPECT_ERROR(build_with(tokens, g.i32({2, 2}, std::vector<int32_t>(4))), "draws must be i32[2, 3]");
}

}  // namespace
}  // namespace weft
