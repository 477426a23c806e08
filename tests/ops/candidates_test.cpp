#include "ops/candidates.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

TEST(CandidatesOp, DescendLowestTokenFirst) {
  OpGraph g;
  const auto [values, tokens] = candidates(g.f32({2, 4}, {1, 5, 5, 3, -1, -2, -1, -9}), 3);
  const auto out = g.run({values, tokens});
  expect_near(out[0], {5, 5, 3, -1, -1, -2});
  expect_near(out[1], {1, 2, 3, 0, 2, 1});
}

TEST(CandidatesOp, ExtremeLogitsAreThoseOfTheSampler) {
  OpGraph g;
  constexpr float kMost = std::numeric_limits<float>::max();
  expect_near(g.run(candidates(g.f32({3, 3}, {kNan, 2, -kInf, kMost, kInf, 0, kNan, -kInf, kNan}), 2).second),
              {1, -1, 0, 1, -1, -1});
}

TEST(CandidatesOp, Errors) {
  OpGraph g;
  EXPECT_ERROR(candidates(g.random({2, 3}), 4), "candidates: cannot take the 4 largest of f32[2, 3]");
  EXPECT_ERROR(candidates(g.random({3}), 1), "logits");
}

}  // namespace
}  // namespace weft
