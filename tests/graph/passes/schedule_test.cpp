// schedule: producers before readers, copies where a value changes devices and nowhere else, few segments.
#include <random>

#include "ops/elementwise.h"
#include "tests/support/gpt_graph.h"
#include "tests/support/null_devices.h"
#include "tests/support/op_fixture.h"
#include "tests/support/plan_check.h"

namespace weft::testing {
namespace {

class Schedule : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> backend =
      null_backend({null_device("null:0", 1 << 30), null_device("null:1", 1 << 30), null_device("null:2", 1 << 30)});
  std::vector<Device> devices = devices_of(*backend);
  Graph graph;
  std::vector<int> node_device;

  Value on(int device, Value value) {
    node_device.resize(static_cast<size_t>(graph.size()), 0);
    node_device[static_cast<size_t>(value.node)] = device;
    return value;
  }
  Plan plan() {
    node_device.resize(static_cast<size_t>(graph.size()), 0);
    Plan made = passes::select(graph, devices, {node_device}, {});
    passes::fold(made);
    passes::schedule(made);
    expect_order(made);
    return made;
  }
  static size_t n_copies(const Plan& plan) {
    size_t n = 0;
    for (const SegmentPlan& segment : plan.segments) n += segment.copies.size();
    return n;
  }
};

TEST_F(Schedule, RandomGraphsKeepTheirDataFlow) {
  std::mt19937 random(11);
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  for (int trial = 0; trial < 100; ++trial) {
    SCOPED_TRACE(trial);
    Graph dag;
    std::vector<Value> values = {dag.input("x", f32_type({2})), constant(dag, {1, 2}, {2})};
    const size_t n = 5 + below(40);
    for (size_t i = 0; i < n; ++i) values.push_back(add(values[below(values.size())], values[below(values.size())]));
    for (size_t i = 0; i < 3; ++i) dag.output(std::to_string(i), values[values.size() - 1 - i]);
    std::vector<int> placed(static_cast<size_t>(dag.size()));
    for (int& d : placed) d = static_cast<int>(below(1 + static_cast<size_t>(trial) % 3));
    Plan made = passes::select(dag, devices, {placed}, {});
    passes::fold(made);
    passes::schedule(made);
    expect_order(made);

    std::set<std::pair<size_t, int>> crossings;  // exactly these are copied
    for (const Step& step : made.steps) {
      for (const Value& value : step.match.node().in.all()) {
        if (is_source(made.graph->node(value.node))) continue;
        const int from = made.node_device[static_cast<size_t>(value.node)];
        if (from != step.device) crossings.insert({made.graph->index(value), step.device});
      }
    }
    EXPECT_EQ(n_copies(made), crossings.size());
    EXPECT_NEAR(made.predicted_us, time_of(made), 1e-9 * made.predicted_us);
  }
}

TEST_F(Schedule, OneDeviceIsOneSegment) {
  const GptGraph gpt;
  const Plan made = compile(gpt.graph, std::span(devices).first(1));
  EXPECT_EQ(made.segments.size(), 1u);
  EXPECT_EQ(n_copies(made), 0u);
}

TEST_F(Schedule, LayersOnTwoDevicesHandOverOnce) {
  const GptGraph gpt({.layers = 4});
  CompileOptions options;
  options.place = {{"blk.[01].*", "null:0"}, {".embedding", "null:0"}, {"*", "null:1"}};
  const Plan made = compile(gpt.graph, devices, options);
  ASSERT_EQ(made.segments.size(), 2u);
  ASSERT_EQ(n_copies(made), 1u) << "only the residual stream crosses; inputs are written to both";
  EXPECT_EQ(made.graph->scope_name(made.graph->node(made.segments[1].copies[0].value.node)), "blk.1");
}

TEST_F(Schedule, IndependentWorkIsGatheredByDevice) {
  // Two chains whose nodes were added in turn.
  Value a = graph.input("a", f32_type({2})), b = graph.input("b", f32_type({2}));
  for (int i = 0; i < 5; ++i) {
    a = on(0, neg(a));
    b = on(1, neg(b));
  }
  graph.output("y", on(0, add(a, b)));
  const Plan made = plan();
  EXPECT_LE(made.segments.size(), 3u);
  EXPECT_EQ(n_copies(made), 1u);
}

TEST_F(Schedule, AValueIsCopiedOnceToEachDevice) {
  const Value x = on(0, neg(graph.input("x", f32_type({2}))));
  const Value y = on(1, exp(x)), z = on(1, tanh(x)), w = on(2, sqrt(x));
  graph.output("sum", on(1, add(on(1, add(y, z)), w)));
  EXPECT_EQ(n_copies(plan()), 3u) << "x to 1, though two read it there, x to 2, and w to 1";
}

TEST_F(Schedule, FoldedStepsComeFirst) {
  const Value x = graph.input("x", f32_type({2}));
  const Value early = neg(x), c = exp(constant(graph, {1, 2}, {2}));
  graph.output("y", add(early, c));
  const Plan made = plan();
  ASSERT_EQ(made.segments.size(), 2u);
  EXPECT_TRUE(made.segments[0].once);
  EXPECT_FALSE(made.segments[1].once);
}

}  // namespace
}  // namespace weft::testing
