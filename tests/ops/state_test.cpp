#include "ops/state.h"

#include "ops/quant/all.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(State, AppendsLiveRowsAtTheirSlots) {
  OpGraph g;
  g.live.tokens = 3;
  const Value cache = g.graph.state("k", f32_type({2, 2, 2, 1}));  // 2 pages of 2 places, 2 heads
  const Value rows = g.f32({4, 2, 1}, {1, -1, 2, -2, 3, -3, 4, -4}, Rows::tokens);
  const Value updated = append_pages(cache, rows, g.i32({4}, {3, -1, 0, 1}, Rows::tokens));
  expect_near(g.run(updated), {3, 0, -3, 0, 0, 1, 0, -1});  // the second row has no slot, the fourth is dead
  EXPECT_EQ(schema_of<AppendPages>().outputs[0].alias, AppendPages::kCache);
}

TEST(State, SlotsCountTheLiveRowsToo) {
  OpGraph g;
  g.live.tokens = 1;
  const Value cache = g.graph.state("k", f32_type({1, 1, 2, 1}));
  expect_near(g.run(append_pages(cache, g.f32({2, 1, 1}, {1, 2}), g.i32({2}, {0, 1}, Rows::tokens))), {1, 0});
}

TEST(State, SlotsPastTheCacheAreNotStored) {
  OpGraph g;
  const Value cache = g.graph.state("k", f32_type({1, 1, 2, 1}));
  expect_near(g.run(append_pages(cache, g.f32({2, 1, 1}, {1, 2}), g.i32({2}, {2, 1}))), {0, 2});
}

TEST(State, QuantizedCache) {
  OpGraph g;
  const Value cache = g.graph.state("k", {quant::q8_0, {1, 1, 2, 32}});
  const auto values = g.random_values(32);
  const Value updated = append_pages(cache, g.f32({1, 1, 32}, values), g.i32({1}, {1}));
  const Value rows = gather_pages(updated, g.i32({1, 1}, {0}), g.i32({1}, {2}));
  auto out = g.run(rows);
  expect_near({out.begin(), out.begin() + 32}, std::vector<float>(32, 0.0f));
  expect_near({out.begin() + 32, out.end()}, values, 1e-2);
}

TEST(State, GathersPagesOfEverySequence) {
  OpGraph g;
  const Value cache = g.f32({3, 2, 2, 1}, {0, 1, 100, 101, 2, 3, 102, 103, 4, 5, 104, 105});  // page p: 2p, 2p + 1
  const Value table = g.i32({2, 2}, {2, 0, 1, 9}), lengths = g.i32({2}, {3, 4});
  const Value y = gather_pages(cache, table, lengths);
  EXPECT_EQ(y.type().shape, (Shape{2, 8, 1}));
  expect_near(g.run(y), {4, 5, 0, 0, 2, 3, 0, 0, 104, 105, 100, 0, 102, 103, 0, 0});  // page 9 is out of range
}

TEST(State, Errors) {
  OpGraph g;
  const Value cache = g.graph.state("k", f32_type({2, 2, 2, 4}));
  EXPECT_ERROR(append_pages(cache, g.random({3, 1, 4}), g.i32({3}, {})),
               "rows must be f32[3, 2, 4], given f32[3, 1, 4]");
  EXPECT_ERROR(append_pages(g.graph.state("i", i32_type({2, 2, 2, 4})), g.random({3, 2, 4}), g.i32({3}, {})),
               "nothing can be stored as i32");
  EXPECT_ERROR(gather_pages(cache, g.i32({2, 2}, {}), g.i32({3}, {})), "lengths must be i32[2], given i32[3]");
}

}  // namespace
}  // namespace weft
