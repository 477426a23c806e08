// verify: state is updated in one chain. A second reader of an overwritten cache would see bytes of another step.
#include "ops/elementwise.h"
#include "ops/movement.h"
#include "ops/state.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

class Verify : public ::testing::Test {
 protected:
  Graph graph;
  Value cache = graph.state("cache", f32_type({1, 1, 4, 2}));
  Value rows = graph.input("rows", f32_type({1, 1, 2}));
  Value slots = graph.input("slots", i32_type({1}));
  Value table = graph.input("table", i32_type({1, 1})), lengths = graph.input("lengths", i32_type({1}));
};

TEST_F(Verify, AChainOfUpdatesPasses) {
  const Value once = append_pages(cache, rows, slots), twice = append_pages(once, rows, slots);
  graph.output("y", gather_pages(twice, table, lengths));
  EXPECT_NO_THROW(verify(graph));
}

TEST_F(Verify, AReaderBeforeTheUpdatePasses) {
  graph.output("before", gather_pages(cache, table, lengths));
  graph.output("after", append_pages(cache, rows, slots));
  EXPECT_NO_THROW(verify(graph));
}

TEST_F(Verify, AReaderAfterTheUpdateIsAnError) {
  const Value updated = append_pages(cache, rows, slots);
  const Graph::Scope scope(graph, "late");
  graph.output("stale", gather_pages(cache, table, lengths));
  graph.output("y", updated);
  EXPECT_ERROR(verify(graph), "late: gather_pages: reads cache after append_pages has overwritten it");
}

TEST_F(Verify, TwoUpdatesOfTheSameValueAreAnError) {
  graph.output("a", append_pages(cache, rows, slots));
  graph.output("b", append_pages(cache, rows, slots));
  EXPECT_ERROR(verify(graph), "append_pages: reads cache after");
}

TEST_F(Verify, AnOverwrittenOutputIsAnError) {
  graph.output("old", cache);
  graph.output("new", append_pages(cache, rows, slots));
  EXPECT_ERROR(verify(graph), "output old is overwritten by append_pages");
}

TEST_F(Verify, ViewsOfOtherValuesMayBeReadAgain) {
  const Value flat = reshape(rows, {2});
  graph.output("a", flat);
  graph.output("b", neg(rows));
  EXPECT_NO_THROW(verify(graph));
}

TEST_F(Verify, AGraphWithoutOutputsIsAnError) { EXPECT_ERROR(verify(graph), "needs at least one output"); }

}  // namespace
}  // namespace weft
