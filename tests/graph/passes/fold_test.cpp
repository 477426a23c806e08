// fold: constant work runs once, and quantized weights stay quantized. Folding them would put a decoded model in
// memory.
#include "backends/ref/ref.h"
#include "ops/indexing.h"
#include "ops/quant/q8_0.h"
#include "ops/rope.h"
#include "tests/support/op_fixture.h"
#include "tests/support/plan_check.h"
#include "tests/support/test_backend.h"

namespace weft::testing {
namespace {

TEST(Fold, RopeTablesRunOnceAndGiveTheSameNumbers) {
  const auto build_graph = [](OpGraph& g) {
    const Value x = g.random({3, 2, 8}, 1, Rows::tokens), positions = g.i32({3}, {5, 6, 7}, Rows::tokens);
    const std::vector<float> factors = {1, 2, 4, 8};
    return rope({Rotary::half, 8, 10000, 1}, x, positions, constant(g.graph, factors, {4}));
  };
  OpGraph g, expected;
  g.graph.output("y", build_graph(g));
  Runtime runtime(Env{}, backends(make_ref_backend()));
  Memory memory;
  Runner runner(compile(g.graph, runtime.devices("ref")), runtime, memory);

  int n_once = 0;
  for (const Step& step : runner.plan().steps) {
    n_once += step.once ? 1 : 0;
    const std::string_view op = step.match.node().op->name;
    if (op == "constant") {
      EXPECT_TRUE(step.once);
    } else if (op == "cos" || op == "sin") {
      EXPECT_FALSE(step.once) << "the angle depends on the positions";
    }
  }
  EXPECT_GE(n_once, 3) << "frequencies, factors and their quotient";
  EXPECT_GT(runner.plan().bytes[0].constant, 0u);
  EXPECT_TRUE(runner.plan().segments[0].once);
  const auto y = expected.run(build_graph(expected));
  for (int i = 0; i < 2; ++i) {  // a second run must find the constants again
    write(runner, g.feeds);
    runner.run({.tokens = 3});
    expect_near(read(runner, "y"), y);
  }
}

TEST(Fold, AConstantStepCallsItsKernelOnce) {
  auto calls = std::make_shared<int>(0);
  const auto backend =
      test_backend(1, {TestBackend::kernel("exp.counted", {"exp"}, [calls](const Call&) { ++*calls; })});
  Graph graph;
  graph.output("y", add(graph.input("x", f32_type({2})), exp(constant(graph, {1, 2}, {2}))));
  Runtime runtime(Env{}, {});
  Memory memory;
  Runner runner(compile(graph, devices_of(*backend)), runtime, memory);
  for (int i = 0; i < 3; ++i) runner.run({});
  EXPECT_EQ(*calls, 1);
}

TEST(Fold, QuantizedWeightsAreNeverFolded) {
  Graph graph;
  std::vector<std::byte> bytes(2 * 34);
  const Value w = graph.weight("w", {{quant::q8_0, {2, 32}}, bytes.data()});
  graph.output("y", add(graph.input("x", f32_type({2, 32})), cast(w, quant::f32)));
  const auto backend = test_backend(1);
  const Plan plan = compile(graph, devices_of(*backend));
  EXPECT_FALSE(steps_of(plan, "cast")[0]->once);
  EXPECT_EQ(plan.bytes[0].constant, 0u);
}

TEST(Fold, WhatReadsAnInputOrStateIsNotConstant) {
  Graph graph;
  const Value c = constant(graph, {1, 2}, {2});
  graph.output("a", add(c, graph.input("x", f32_type({2}))));
  graph.output("b", add(c, graph.state("s", f32_type({2}))));
  const auto backend = test_backend(1);
  const Plan plan = compile(graph, devices_of(*backend));
  for (const Step* step : steps_of(plan, "add")) EXPECT_FALSE(step->once);
  EXPECT_TRUE(steps_of(plan, "constant")[0]->once);
}

TEST(Fold, LargeConstantsAreComputedEachTime) {
  Graph graph;
  graph.output("y", neg(iota(graph, (int64_t{4} << 20) + 1)));  // 16 MiB and one element
  const auto backend = test_backend(1);
  for (const Step& step : compile(graph, devices_of(*backend)).steps) EXPECT_FALSE(step.once);
}

}  // namespace
}  // namespace weft::testing
