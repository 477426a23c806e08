// compile: all passes, and the loop between them that fits a plan into memory.
#include "ops/elementwise.h"
#include "tests/support/gpt_graph.h"
#include "tests/support/null_devices.h"
#include "tests/support/op_fixture.h"
#include "tests/support/plan_check.h"

namespace weft::testing {
namespace {

TEST(Compile, ThePlanOwnsItsGraph) {
  const auto backend = null_backend({null_device("null", 1 << 30)});
  std::optional<Plan> plan;
  {
    const GptGraph gpt;
    plan = compile(gpt.graph, devices_of(*backend));
  }
  EXPECT_THAT_CONTAINS(dump_plan(*plan), "qkv_gemm.null");
  for (const Step& step : plan->steps) EXPECT_EQ(step.match.graph, plan->graph.get());
}

TEST(Compile, AGraphThatDoesNotVerifyIsNotPlanned) {
  const auto backend = null_backend({null_device("null", 1 << 30)});
  const Graph graph;
  EXPECT_ERROR(compile(graph, devices_of(*backend)), "needs at least one output");
}

TEST(Compile, ALargeArenaMovesWeightsToAnotherDevice) {
  // The first device holds all weights, but not with the activations on top.
  const GptGraph gpt({.layers = 3, .width = 8, .heads = 2, .vocab = 16, .tokens = 256});
  const auto roomy = null_backend({null_device("null", 1 << 30)});
  const Plan whole = compile(gpt.graph, devices_of(*roomy));
  const size_t limit = whole.bytes[0].weight + whole.bytes[0].state + whole.bytes[0].arena / 2;
  const auto backend = null_backend({null_device("fast", limit, 1000, 5000), null_device("slow", 1 << 30)});
  CompileOptions options;
  options.workload.tokens = 256;
  const Plan plan = compile(gpt.graph, devices_of(*backend), options);
  EXPECT_LE(bytes_on(plan, 0), limit);
}

TEST(Compile, OptionsComeFromTheEnvironment) {
  Env env;
  env.fallback = true;
  env.kernel["linear"] = "plain";
  const CompileOptions options = CompileOptions::from(env);
  EXPECT_TRUE(options.fallback);
  EXPECT_EQ(options.kernel.at("linear"), "plain");
}

TEST(Compile, DumpsShowDevicesSegmentsAndBytes) {
  const GptGraph gpt;
  const auto backend = null_backend({null_device("null:0", 1 << 30), null_device("null:1", 1 << 30)});
  CompileOptions options;
  options.place = {{"blk.1.*", "null:1"}, {"*", "null:0"}};
  const Plan plan = compile(gpt.graph, devices_of(*backend), options);
  const std::string text = dump_plan(plan);
  EXPECT_THAT_CONTAINS(text, "segment 1 on null:1");
  EXPECT_THAT_CONTAINS(text, "from null:0");
  EXPECT_THAT_CONTAINS(dump_memory(plan), fmt::format("device null:1: arena {} B", plan.bytes[1].arena));
}

}  // namespace
}  // namespace weft::testing
