// compile: all passes, and the loop between them that fits a plan into memory.
#include "ops/elementwise.h"
#include "tests/support/gpt_graph.h"
#include "tests/support/null_devices.h"
#include "tests/support/op_fixture.h"
#include "tests/support/plan_check.h"
#include "tests/support/test_backend.h"

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
  const size_t limit = whole.bytes[0].copied + whole.bytes[0].state + whole.bytes[0].arena / 2;
  const auto backend = null_backend({null_device("fast", limit, 1000, 5000), null_device("slow", 1 << 30)});
  CompileOptions options;
  options.workload.tokens = 256;
  const Plan plan = compile(gpt.graph, devices_of(*backend), options);
  EXPECT_LE(bytes_on(plan, 0), limit);
}

/// A host device whose kernel for linear wants its weights packed, and another as they are.
class HostDevice : public ::testing::Test {
 protected:
  HostDevice() {
    w_.resize(kWeight / sizeof(float), 1.0f);
    const Tensor w{f32_type({kRows, kColumns}), reinterpret_cast<std::byte*>(w_.data()), nullptr};
    Value x = graph_.input("x", f32_type({1, kColumns}));
    graph_.output("y", linear(add(x, x), {graph_.weight("w", w)}, {}));
  }

  Plan plan(size_t memory, CompileOptions options = {}) {
    static const Layout layout{.name = "packed",
                               .bytes = [](const TensorType& type) { return type.bytes(); },
                               .pack = nullptr,
                               .tile_rows = 1};
    Kernel packed = TestBackend::kernel("linear.packed", {"linear"}, {});
    packed.layout = [](const Match&, size_t, size_t slot, const TensorType&) { return slot == 1 ? &layout : nullptr; };
    DeviceInfo host = test_device("host", memory);
    host.host_memory = true;
    backend_ = std::make_unique<TestBackend>(
        std::vector{host}, std::vector{std::move(packed), TestBackend::kernel("linear.stored", {"linear"}, {})});
    return compile(graph_, devices_of(*backend_), options);
  }

  static constexpr int64_t kRows = 500, kColumns = 10;
  static constexpr size_t kWeight = kRows * kColumns * sizeof(float);
  Graph graph_;
  std::vector<float> w_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(HostDevice, PackedCopiesCount) {
  const Plan roomy = plan(1 << 20);
  EXPECT_EQ(steps_of(roomy, "linear")[0]->kernel->name, "linear.packed");
  EXPECT_TRUE(roomy.packs);
  EXPECT_EQ(roomy.bytes[0].copied, kWeight);
  EXPECT_EQ(roomy.bytes[0].mapped, 0u);
  EXPECT_GE(roomy.bytes[0].total(), kWeight);
}

TEST_F(HostDevice, PackedCopiesThatDoNotFitAreNotMade) {
  const Plan tight = plan(kWeight);
  EXPECT_EQ(steps_of(tight, "linear")[0]->kernel->name, "linear.stored");
  EXPECT_FALSE(tight.packs);
  EXPECT_EQ(tight.bytes[0].copied, 0u);
  EXPECT_EQ(tight.bytes[0].mapped, kWeight);
  EXPECT_LT(tight.bytes[0].total(), kWeight / 2) << "a file may be larger than memory";
}

TEST_F(HostDevice, NorIfPackingIsNotWanted) {
  CompileOptions options;
  options.pack = false;
  const Plan stored = plan(1 << 20, options);
  EXPECT_EQ(steps_of(stored, "linear")[0]->kernel->name, "linear.stored");
}

TEST_F(HostDevice, WhatCannotFitIsAnErrorOfOneLine) {
  const std::string error = error_of([&] { plan(1000); });
  for (const std::string_view text : {"does not fit in memory: it takes ",
                                      " of host (weights 0 B, KV cache 0 B, workspace ", "free are 1000 B of host"}) {
    EXPECT_THAT_CONTAINS(error, text);
  }
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
}

TEST(Compile, OptionsComeFromTheEnvironment) {
  Env env;
  env.fallback = true;
  env.kernel["linear"] = "plain";
  const CompileOptions options = CompileOptions::from(env);
  EXPECT_TRUE(options.fallback);
  EXPECT_EQ(options.kernel.at("linear"), "plain");
}

TEST(Compile, ARowANodeSaysWhereAndWhy) {
  const GptGraph gpt;
  const auto backend = null_backend({null_device("null:0", 1 << 30), null_device("null:1", 1 << 30)}, {"layer_norm"});
  CompileOptions options;
  options.place = {{"blk.1.*", "null:1"}, {"*", "null:0"}};
  const Plan plan = compile(gpt.graph, devices_of(*backend), options);
  std::vector<double> measured(plan.steps.size(), 12.5);
  measured[0] = -1;
  const std::string text = explain_plan(plan, {.tokens = 1, .kv_length = 4}, measured);
  for (const char* part : {"null:1 reads 10.0 GB/s", "blk.1.qkv_gemm", "qkv_gemm.null", "copy from null:0", "12.5 us",
                           "--place 'blk.1.*=null:1'", "layer_norm lowered", "lowered layer_norm on null:0: "}) {
    EXPECT_THAT_CONTAINS(text, part);
  }
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
