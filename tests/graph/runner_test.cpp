// Runner: a plan gives the numbers of the graph, whatever the devices, the arena and the other plans of the session.
#include "graph/runner.h"

#include <numeric>

#include "backends/ref/ref.h"
#include "tests/support/gpt_graph.h"
#include "tests/support/null_devices.h"
#include "tests/support/op_fixture.h"
#include "tests/support/plan_check.h"
#include "tests/support/test_backend.h"

namespace weft::testing {
namespace {

const std::vector<int32_t> kPrompt = {3, 1, 4};

/// The logits of kPrompt, then of one token more, by the evaluator without plans.
std::vector<std::vector<float>> expected_logits() {
  States states;
  std::vector<std::vector<float>> logits;
  {
    GptGraph gpt;
    logits.push_back(evaluate(gpt.graph, gpt.feeds(kPrompt, 0), states, {3, 1}).at("logits").values());
  }
  GptGraph gpt;
  logits.push_back(evaluate(gpt.graph, gpt.feeds({5}, 3), states, {1, 1}).at("logits").values());
  return logits;
}

std::vector<float> logits_of(Runner& runner, const GptGraph& gpt, const std::vector<int32_t>& ids, int32_t cached) {
  write(runner, gpt.feeds(ids, cached));
  runner.run({.tokens = static_cast<int64_t>(ids.size()), .logits = 1});
  return read(runner, "logits");
}

class RunnerTest : public ::testing::Test {
 protected:
  Runtime ref{Env{}, backends(make_ref_backend())};
  Memory memory;

  Runner runner(const Graph& graph) { return {compile(graph, ref.devices("ref")), ref, memory}; }
};

TEST_F(RunnerTest, GivesTheNumbersOfTheGraphAndKeepsTheState) {
  const auto expected = expected_logits();
  const GptGraph gpt;
  Runner prefill = runner(gpt.graph);
  expect_near(logits_of(prefill, gpt, kPrompt, 0), expected[0]);
  expect_near(logits_of(prefill, gpt, {5}, 3), expected[1]);
}

TEST_F(RunnerTest, TwoPlansOfOneMemoryShareTheState) {
  const auto expected = expected_logits();
  const GptGraph gpt, one({.tokens = 1});
  Runner prefill = runner(gpt.graph), decode = runner(one.graph);
  expect_near(logits_of(prefill, gpt, kPrompt, 0), expected[0]);
  expect_near(logits_of(decode, one, {5}, 3), expected[1]);
}

TEST_F(RunnerTest, APlanMadeLaterMayGrowTheArena) {
  const auto expected = expected_logits();
  const GptGraph one({.tokens = 1}), gpt, many({.tokens = 12});
  Runner decode = runner(one.graph);
  for (int i = 0; i < 3; ++i) logits_of(decode, one, {kPrompt[static_cast<size_t>(i)]}, i);
  const int before = memory.generation;
  Runner large = runner(many.graph);
  ASSERT_GT(memory.generation, before) << "the test needs an arena that moves";
  expect_near(logits_of(decode, one, {5}, 3), expected[1]);
  expect_near(logits_of(large, many, kPrompt, 0), expected[0]);
}

TEST_F(RunnerTest, ResultsLeftInAnArenaThatMovedAreNotRead) {
  const GptGraph one({.tokens = 1}), many({.tokens = 12});
  Runner decode = runner(one.graph);
  logits_of(decode, one, {1}, 0);
  const Runner large = runner(many.graph);
  EXPECT_ERROR(read(decode, "logits"), "logits");
}

TEST_F(RunnerTest, RowsPastTheLiveOnesDoNotMatter) {
  Graph graph;
  const Value x = graph.input("x", f32_type({5, 2}, Rows::tokens));
  graph.output("y", layer_norm(x, constant(graph, {2, 3}, {2}), {}, 0));
  Runner plan = runner(graph);
  std::vector<float> full(10), few;
  std::iota(full.begin(), full.end(), 0.5f);
  full[1] = 4;
  plan.write("x", std::span<const float>(full));
  plan.run({.tokens = 5});
  const auto all = read(plan, "y");
  for (size_t i = 6; i < 10; ++i) full[i] = std::numeric_limits<float>::quiet_NaN();
  plan.write("x", std::span<const float>(full));
  plan.run({.tokens = 3});
  few = read(plan, "y");
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(few[i], all[i]);
}

TEST_F(RunnerTest, AShortWriteKeepsTheRest) {
  Graph graph;
  graph.output("y", neg(graph.input("x", f32_type({3}))));
  Runner plan = runner(graph);
  plan.write("x", std::span<const float>(std::vector<float>{1, 2, 3}));
  plan.write("x", std::span<const float>(std::vector<float>{7}));
  plan.run({});
  EXPECT_EQ(read(plan, "y"), (std::vector<float>{-7, -2, -3}));
}

TEST_F(RunnerTest, OutputsMayBeInputsWeightsAndConstants) {
  Graph graph;
  const float one = 1;
  const Value x = graph.input("x", f32_type({1})), c = constant(graph, {5}, {1});
  graph.output("x", x);
  graph.output("w", graph.weight("w", {f32_type({1}), reinterpret_cast<std::byte*>(const_cast<float*>(&one))}));
  graph.output("c", c);
  Runner plan = runner(graph);
  plan.write("x", std::span<const float>(std::vector<float>{3}));
  plan.run({});
  EXPECT_EQ(read(plan, "x")[0], 3);
  EXPECT_EQ(read(plan, "w")[0], 1);
  EXPECT_EQ(read(plan, "c")[0], 5);
}

TEST_F(RunnerTest, WrongNamesAndSizesAreErrors) {
  Graph graph;
  graph.input("unused", f32_type({2}));
  graph.output("y", neg(graph.input("x", f32_type({2}))));
  Runner plan = runner(graph);
  float data[3] = {};
  EXPECT_TRUE(plan.reads_input("x"));
  EXPECT_FALSE(plan.reads_input("unused"));
  EXPECT_ERROR(plan.write("z", data, 4), "the plan has no input z");
  EXPECT_ERROR(plan.write("x", data, 12), "input x holds 8 bytes, given 12");
  EXPECT_ERROR(plan.read("z", data, 4), "the plan has no output z");
  EXPECT_ERROR(plan.read("y", data, 12), "output y holds 8 bytes, asked for 12");
}

/// Every op on a device of its own choosing: copies in all directions.
TEST(RunnerDevices, SeveralDevicesGiveTheSameNumbers) {
  const auto expected = expected_logits();
  const GptGraph gpt;
  const auto backend = test_backend(3);
  Runtime runtime(Env{}, {});
  for (const bool mixed : {false, true}) {
    Memory memory;
    CompileOptions options;
    options.place = {{"*.qkv_gemm", "test:1"}, {"blk.1.*", "test:2"}, {mixed ? ".*" : "*", "test:1"}, {"*", "test:0"}};
    Plan plan = compile(gpt.graph, devices_of(*backend), options);
    expect_order(plan);
    expect_bytes_hold(plan);
    Runner runner(std::move(plan), runtime, memory);
    expect_near(logits_of(runner, gpt, kPrompt, 0), expected[0], 1e-5);
    expect_near(logits_of(runner, gpt, {5}, 3), expected[1], 1e-5);
  }
}

TEST(RunnerDevices, ARunFollowsFromWhatTheLastOneGave) {
  const auto backend = test_backend(1);
  Runtime runtime(Env{}, {});
  Memory memory;
  Graph graph;
  const Value x = graph.input("x", f32_type({2})), b = graph.input("b", f32_type({2}));
  graph.output("y", add(neg(x), b));
  Runner plan(compile(graph, devices_of(*backend)), runtime, memory);
  plan.write("x", std::span<const float>(std::vector<float>{1, 2}));
  plan.write("b", std::span<const float>(std::vector<float>{10, 20}));
  plan.run({});
  plan.write("b", std::span<const float>(std::vector<float>{30, 40}));
  ASSERT_TRUE(plan.can_follow());
  float chosen[2] = {};
  plan.wait("y", plan.follow({}, "y", "x", chosen, sizeof(float)));
  EXPECT_EQ(chosen[0], 9) << "of the run before";
  EXPECT_EQ(chosen[1], 0) << "not asked for";
  EXPECT_EQ(read(plan, "y"), (std::vector<float>{21, 38}));
  EXPECT_ERROR(plan.follow({}, "z", "x", chosen, 4), "the plan has no output z");
  EXPECT_ERROR(plan.follow({}, "y", "z", chosen, 4), "the plan has no input z");
}

TEST(RunnerDevices, OnlyLiveRowsAreHandedOver) {
  Graph graph;
  const Value x = graph.input("x", f32_type({8, 2}, Rows::tokens));
  graph.output("y", exp(neg(x)));
  const auto backend = test_backend(2);
  CompileOptions options;
  options.place = {{".exp", "test:1"}, {"*", "test:0"}};
  Runtime runtime(Env{}, {});
  Memory memory;
  Runner runner(compile(graph, devices_of(*backend), options), runtime, memory);
  runner.write("x", std::span<const float>(std::vector<float>(16, -1)));
  for (const int64_t live : {3, 8, 1}) {
    backend->bytes_read = 0;
    runner.run({.tokens = live});
    EXPECT_EQ(backend->bytes_read, static_cast<size_t>(live) * 2 * sizeof(float));
    const auto y = read(runner, "y");
    for (size_t i = 0; i < static_cast<size_t>(live) * 2; ++i) EXPECT_NEAR(y[i], std::exp(1), 1e-6);
  }
}

TEST(RunnerDevices, FoldedValuesReachTheOtherDevice) {
  Graph graph;
  const Value c = exp(constant(graph, {0, 0}, {2})), x = graph.input("x", f32_type({2}));
  graph.output("y", sub(x, c));
  const auto backend = test_backend(2);
  CompileOptions options;
  options.place = {{".sub", "test:1"}, {"*", "test:0"}};
  Runtime runtime(Env{}, {});
  Memory memory;
  Runner runner(compile(graph, devices_of(*backend), options), runtime, memory);
  for (const float value : {3.0f, 4.0f}) {
    runner.write("x", std::span<const float>(std::vector<float>{value, value}));
    runner.run({});
    EXPECT_EQ(read(runner, "y"), (std::vector<float>{value - 1, value - 1}));
  }
}

TEST(RunnerDevices, APlanSurvivesAnotherThatFoundNoMemory) {
  Graph small, large;
  small.output("y", neg(small.input("x", f32_type({2}))));
  large.output("y", neg(large.input("x", f32_type({4096}))));
  TestBackend backend({test_device("test:0", 4096)});
  Runtime runtime(Env{}, {});
  Memory memory;
  Runner first(compile(small, devices_of(backend)), runtime, memory);
  CompileOptions options;
  options.memory_limit = {size_t{1} << 20};  // more than there is: only the allocation finds out
  EXPECT_ERROR(Runner(compile(large, devices_of(backend), options), runtime, memory), "no memory for");
  first.write("x", std::span<const float>(std::vector<float>{1, 2}));
  first.run({});
  EXPECT_EQ(read(first, "y"), (std::vector<float>{-1, -2}));
}

TEST(RunnerDevices, WorkspaceIsTheKernelsAlone) {
  Kernel kernel = TestBackend::kernel("neg.scratch", {"neg"}, [](const Call& call) {
    std::memset(call.workspace, 0xFF, 100);
    for (int i = 0; i < 2; ++i) call.out[0].as<float>()[i] = -call.input(0).as<float>()[i];
  });
  kernel.workspace = [](const Match&) { return size_t{100}; };
  const auto backend = test_backend(1, {kernel});
  Graph graph;
  const Value x = graph.input("x", f32_type({2})), a = exp(x);
  graph.output("y", add(neg(x), add(a, neg(a))));
  Runtime runtime(Env{}, {});
  Memory memory;
  Plan plan = compile(graph, devices_of(*backend));
  expect_bytes_hold(plan);
  Runner runner(std::move(plan), runtime, memory);
  runner.write("x", std::span<const float>(std::vector<float>{1, 2}));
  runner.run({});
  EXPECT_EQ(read(runner, "y"), (std::vector<float>{-1, -2}));
}

TEST(RunnerDevices, AnIdleDeviceNeedsNoMemory) {
  TestBackend backend({test_device("test:0"), test_device("full", 0)});
  Graph graph;
  graph.output("y", neg(graph.input("x", f32_type({2}))));
  Runtime runtime(Env{}, {});
  Memory memory;
  Runner runner(compile(graph, devices_of(backend)), runtime, memory);
  runner.write("x", std::span<const float>(std::vector<float>{1, 2}));
  runner.run({});
  EXPECT_EQ(read(runner, "y"), (std::vector<float>{-1, -2}));
}

TEST(RunnerDevices, TheNullBackendGoesThroughTheMotions) {
  const GptGraph gpt;
  Runtime runtime(Env{}, backends(null_backend({null_device("null", 1 << 24)})));
  Memory memory;
  Runner runner(compile(gpt.graph, runtime.devices()), runtime, memory);
  EXPECT_EQ(logits_of(runner, gpt, kPrompt, 0).size(), 32u);
}

}  // namespace
}  // namespace weft::testing
