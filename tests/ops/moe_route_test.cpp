#include "ops/moe_route.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

class MoeRouteTest : public ::testing::Test {
 protected:
  std::vector<std::vector<float>> run(Gating gating) {
    const Value x = g.f32({1, 1}, {1}), weight = g.f32({3, 1}, {0, std::log(2.0f), 0}),
                bias = g.f32({3}, {0, 0, std::log(5.0f)});
    return g.run(build(MoeRoute{gating, 2}, {x, weight, bias}));  // probabilities 1/8, 2/8, 5/8
  }
  OpGraph g;
};

TEST_F(MoeRouteTest, Gatings) {
  EXPECT_EQ(run(Gating::softmax_topk)[0], (std::vector<float>{2, 1}));
  expect_near(run(Gating::softmax_topk)[1], {5.0f / 8, 2.0f / 8});
  expect_near(run(Gating::softmax_topk_renorm)[1], {5.0f / 7, 2.0f / 7});
  EXPECT_EQ(run(Gating::topk_softmax)[0], (std::vector<float>{2, 1}));
  expect_near(run(Gating::topk_softmax)[1], {5.0f / 7, 2.0f / 7});
}

TEST_F(MoeRouteTest, NamesAndErrors) {
  for (const auto& [gating, name] : kGatings) EXPECT_EQ(parse_gating(name), gating);
  const Value x = g.random({1, 2});
  EXPECT_ERROR(build(MoeRoute{Gating::softmax_topk, 4}, {x, g.random({3, 2})}),
               "moe_route: cannot pick 4 of 3 experts");
  EXPECT_ERROR(build(MoeRoute{Gating::softmax_topk, 1}, {x, g.random({3, 2}), g.random({2})}), "bias must be f32[3]");
}

}  // namespace
}  // namespace weft
