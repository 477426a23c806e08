// Building a graph: a node that exists is right, and a wrong one says what, where and with what.
#include "graph/graph.h"

#include "ops/linear.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

class GraphTest : public ::testing::Test {
 protected:
  Graph graph;
  Value x = graph.input("x", f32_type({2, 3}, Rows::tokens));
};

TEST_F(GraphTest, InfersTypesAndNumbersValues) {
  const Value y = neg(x), z = add(x, y);
  EXPECT_EQ(z.type(), f32_type({2, 3}, Rows::tokens));
  EXPECT_EQ(graph.n_values(), 3u);
  EXPECT_EQ(graph.index(x), 0u);
  EXPECT_EQ(graph.index(z), 2u);
  EXPECT_NE(graph.node(y.node).as<Neg>(), nullptr);
  EXPECT_EQ(graph.node(y.node).as<Add>(), nullptr);
  EXPECT_TRUE(is_source(graph.node(x.node)));
}

TEST_F(GraphTest, ErrorsNameScopeAndOp) {
  const Value w = graph.input("w", f32_type({4, 5}));
  const Graph::Scope layer(graph, "blk.3");
  const Graph::Scope part(graph, "ffn");
  EXPECT_ERROR(linear(x, {w}, {}), "blk.3.ffn: linear: ");
  EXPECT_EQ(graph.size(), 2) << "a node that threw must not stay";
}

TEST_F(GraphTest, ScopesEnd) {
  {
    const Graph::Scope scope(graph, "inner");
    EXPECT_EQ(graph.where(graph.node(neg(x).node)), "inner: neg");
  }
  EXPECT_EQ(graph.where(graph.node(neg(x).node)), "neg");
}

TEST_F(GraphTest, SlotsAreChecked) {
  EXPECT_ERROR(graph.add(Add{}, {x}), "add: input b is missing");
  EXPECT_ERROR(graph.add(Neg{}, {x, x}), "neg: takes 1 inputs, given 2");
  EXPECT_ERROR(graph.add(Neg{}, {std::vector<Value>{x, x}}), "takes one value, given 2");
  EXPECT_ERROR(graph.add(Linear{}, {x, std::vector<Value>{Value{}}, {}}), "holds a null value");
  EXPECT_ERROR(neg(Value{}), "every input is absent");
  Graph other;
  EXPECT_ERROR(graph.add(Neg{}, {other.input("y", f32_type({1}))}), "belongs to another graph");
}

TEST_F(GraphTest, OutputsAreNamedOnce) {
  graph.output("y", x);
  EXPECT_ERROR(graph.output("y", x), "output y is named twice");
  EXPECT_ERROR(graph.output("z", Value{}), "output z");
}

TEST_F(GraphTest, LiveNodesAndUses) {
  const Value y = neg(x), dead = exp(y), z = mul(y, y);
  graph.output("z", z);
  const auto live = live_nodes(graph);
  EXPECT_TRUE(live[static_cast<size_t>(y.node)]);
  EXPECT_FALSE(live[static_cast<size_t>(dead.node)]);
  const auto uses = count_uses(graph, live);
  EXPECT_EQ(uses[graph.index(y)], 2) << "twice by mul, not by the dead exp";
  EXPECT_EQ(uses[graph.index(z)], 1) << "an output is a use";
}

}  // namespace
}  // namespace weft
