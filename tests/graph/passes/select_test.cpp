// select: the right kernel for every node. A chain taken wrongly drops a result; a refusal lost leaves the user
// guessing.
#include "ops/layer_norm.h"
#include "ops/mlp_gemm.h"
#include "ops/residual_add.h"
#include "tests/support/gpt_graph.h"
#include "tests/support/op_fixture.h"
#include "tests/support/plan_check.h"
#include "tests/support/test_backend.h"

namespace weft::testing {
namespace {

Kernel kernel(std::string name, std::vector<std::string_view> covers) {
  return TestBackend::kernel(std::move(name), std::move(covers), [](const Call&) {});
}

const Kernel kMlpResidual = kernel("mlp_gemm.with_residual", {"mlp_gemm", "residual_add"});
const Kernel kMlp = kernel("mlp_gemm.plain", {"mlp_gemm"});
const Kernel kResidual = kernel("residual_add.plain", {"residual_add"});

/// mlp_gemm and residual_add as a sequential layer has them.
struct Layer {
  Graph graph;
  Value x = graph.input("x", f32_type({2, 4})), mlp, residual, y;

  Layer() {
    const Value gamma = graph.input("gamma", f32_type({4}));
    const Value up = graph.input("up", f32_type({8, 4})), down = graph.input("down", f32_type({4, 8}));
    const auto out = graph.add(MlpGemm{}, {x, x, {}, gamma, {}, up, {}, down});
    mlp = out[0];
    residual = out[1];
    y = graph.add(ResidualAdd{}, {mlp, x, {}, {}, {}})[0];
    graph.output("y", y);
  }
};

std::vector<std::string> kernels_of(const Plan& plan) {
  std::vector<std::string> names;
  for (const Step& step : plan.steps) names.push_back(step.kernel->name);
  return names;
}

using Names = std::vector<std::string>;

TEST(SelectChain, TheLongestChainComesFirst) {
  const auto backend = test_backend(1, {kMlp, kResidual, kMlpResidual});
  const Layer layer;
  const Plan plan = compile(layer.graph, devices_of(*backend));
  ASSERT_EQ(kernels_of(plan), Names{"mlp_gemm.with_residual"});
  const Match& match = plan.steps[0].match;
  ASSERT_EQ(match.nodes.size(), 2u);
  EXPECT_EQ(match.last().op->name, "residual_add");
  EXPECT_EQ(match.uses, std::vector<int>{1}) << "uses are those of the last node";
  const Cost mlp = steps_of(plan, "mlp_gemm")[0]->cost;
  EXPECT_GT(mlp.weight_bytes, 0) << "the cost is the chain's";
}

TEST(SelectChain, ASecondReaderPreventsIt) {
  const auto backend = test_backend(1, {kMlpResidual, kMlp, kResidual});
  Layer layer;
  layer.graph.output("z", neg(layer.mlp));
  EXPECT_EQ(kernels_of(compile(layer.graph, devices_of(*backend))),
            (Names{"mlp_gemm.plain", "residual_add.plain", "neg.test"}));
}

TEST(SelectChain, AReaderOfAnotherOutputPreventsIt) {
  const auto backend = test_backend(1, {kMlpResidual, kMlp, kResidual});
  Layer layer;
  layer.graph.output("norm", layer.residual);
  EXPECT_EQ(kernels_of(compile(layer.graph, devices_of(*backend))), (Names{"mlp_gemm.plain", "residual_add.plain"}));
}

TEST(SelectChain, TheMiddleAsAnOutputPreventsIt) {
  const auto backend = test_backend(1, {kMlpResidual, kMlp, kResidual});
  Layer layer;
  layer.graph.output("mlp", layer.mlp);
  EXPECT_EQ(kernels_of(compile(layer.graph, devices_of(*backend))), (Names{"mlp_gemm.plain", "residual_add.plain"}));
}

TEST(SelectChain, AnotherDeviceForTheSecondNodePreventsIt) {
  const auto backend = test_backend(2, {kMlpResidual, kMlp, kResidual});
  const Layer layer;
  CompileOptions options;
  options.place = {{".residual_add", "test:1"}, {"*", "test:0"}};
  EXPECT_EQ(kernels_of(compile(layer.graph, devices_of(*backend), options)),
            (Names{"mlp_gemm.plain", "residual_add.plain"}));
}

/// A composite whose fallback leaves a node that nobody reads, right after the one that counts.
struct Untidy {
  static constexpr std::string_view name = "untidy", doc = "y = exp(-x).";
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();
  std::vector<TensorType> infer(const Types& in) const { return {in[0]}; }
  std::vector<Value> lower(const Values& in) const {
    const Value negated = neg(in[0]);
    tanh(negated);  // dead
    return {exp(negated)};
  }
};

TEST(SelectChain, ADeadReaderIsNotPartOfIt) {
  const auto backend = test_backend(1, {kernel("neg.tanh", {"neg", "tanh"}), kernel("neg.exp", {"neg", "exp"})});
  Graph graph;
  graph.output("y", graph.add(Untidy{}, {graph.input("x", f32_type({4}))})[0]);
  EXPECT_EQ(kernels_of(compile(graph, devices_of(*backend))), Names{"neg.exp"});
}

TEST(SelectRefusals, TheNextKernelIsTaken) {
  Kernel picky = kernel("neg.picky", {"neg"});
  picky.refuses = [](const Match& match, const DeviceInfo&) -> std::optional<std::string> {
    if (match.type(0).shape[0] % 4 == 0) return std::nullopt;
    return "rows are not a multiple of 4";
  };
  const auto backend = test_backend(1, {picky});
  for (const int64_t rows : {4, 5}) {
    Graph graph;
    graph.output("y", neg(graph.input("x", f32_type({rows}))));
    EXPECT_EQ(kernels_of(compile(graph, devices_of(*backend))), Names{rows == 4 ? "neg.picky" : "neg.test"});
  }
}

TEST(SelectRefusals, AreRecordedWithTheirReasons) {
  Kernel never = kernel("layer_norm.never", {"layer_norm"});
  never.refuses = [](const Match&, const DeviceInfo& device) { return "not on " + device.name; };
  const auto backend = test_backend(1, {never});
  Graph graph;
  const Graph::Scope scope(graph, "blk.0");
  const Value x = graph.input("x", f32_type({2, 4}));
  graph.output("y", layer_norm(x, graph.input("gamma", f32_type({4})), {}, 1e-5f));
  const Plan plan = compile(graph, devices_of(*backend));
  ASSERT_EQ(plan.refusals.size(), 1u);
  EXPECT_EQ(plan.refusals[0].where, "blk.0: layer_norm");
  EXPECT_EQ(plan.refusals[0].device, "test:0");
  EXPECT_EQ(plan.refusals[0].reasons, Names{"layer_norm.never: not on test:0"});
  EXPECT_THAT_CONTAINS(dump_plan(plan), "lowered layer_norm on test:0: layer_norm.never: not on test:0");
  for (const Step& step : plan.steps) {
    const Node& node = step.match.node();
    ASSERT_NE(node.lowered_from, nullptr) << node.op->name << " hides that a kernel is missing";
    EXPECT_EQ(node.lowered_from->name, "layer_norm");
    EXPECT_EQ(plan.graph->scope_name(node), "blk.0");
  }
}

TEST(SelectRefusals, NestedFallbacksNameTheOutermostOp) {
  const auto backend = test_backend(1);
  const Layer layer;
  const Plan plan = compile(layer.graph, devices_of(*backend));
  std::set<std::string_view> from;
  for (const Step& step : plan.steps) {
    ASSERT_NE(step.match.node().lowered_from, nullptr);
    from.insert(step.match.node().lowered_from->name);
  }
  EXPECT_EQ(from, (std::set<std::string_view>{"mlp_gemm", "residual_add"}));
}

/// A primitive that no backend has.
struct Exotic {
  static constexpr std::string_view name = "exotic", doc = "";
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();
  std::vector<TensorType> infer(const Types& in) const { return {in[0]}; }
};

TEST(SelectErrors, APrimitiveWithoutKernelNamesNodeDeviceAndReasons) {
  Kernel never = kernel("exotic.never", {"exotic"});
  never.refuses = [](const Match&, const DeviceInfo&) { return "the moon is wrong"; };
  Graph graph;
  const Graph::Scope scope(graph, "blk.7");
  graph.output("y", graph.add(Exotic{}, {graph.input("x", f32_type({2}))})[0]);
  const auto refusing = test_backend(1, {never});
  EXPECT_ERROR(compile(graph, devices_of(*refusing)),
               "blk.7: exotic: cannot run on test:0: exotic.never: the moon is wrong");
  const auto lacking = test_backend(1);
  EXPECT_ERROR(compile(graph, devices_of(*lacking)), "blk.7: exotic: cannot run on test:0: test has no kernel for it");
}

TEST(SelectErrors, AnExpansionOverTheLimitSaysHowMuch) {
  const auto backend = test_backend(1);
  Graph graph;
  const Graph::Scope scope(graph, "norm");
  const Value x = graph.input("x", f32_type({64, 64}));
  graph.output("y", layer_norm(x, graph.input("gamma", f32_type({64})), {}, 1e-5f));
  CompileOptions options;
  options.expansion_limit = 64 * 64 * 4;
  EXPECT_NO_THROW(compile(graph, devices_of(*backend), options));
  options.expansion_limit -= 1;
  EXPECT_ERROR(compile(graph, devices_of(*backend), options),
               "norm: layer_norm: its fallback needs a tensor of 16384 bytes, the limit is 16383");
}

TEST(SelectOptions, WeftKernelNamesTheKernel) {
  const auto backend = test_backend(1, {kernel("neg.fast", {"neg"}), kernel("neg.plain", {"neg"})});
  Graph graph;
  graph.output("y", neg(graph.input("x", f32_type({4}))));
  CompileOptions options;
  EXPECT_EQ(kernels_of(compile(graph, devices_of(*backend), options)), Names{"neg.fast"});
  options.kernel["neg"] = "plain";
  EXPECT_EQ(kernels_of(compile(graph, devices_of(*backend), options)), Names{"neg.plain"});
  options.kernel["neg"] = "cuda";
  EXPECT_ERROR(compile(graph, devices_of(*backend), options), "neg.fast: not the one that WEFT_KERNEL names");
}

TEST(SelectOptions, CoarserArithmeticIsRefused) {
  Kernel coarse = kernel("neg.int8", {"neg"});
  coarse.arithmetic = Arithmetic::int8;
  const auto backend = test_backend(1, {coarse});
  Graph graph;
  graph.output("y", neg(graph.input("x", f32_type({4}))));
  CompileOptions options;
  EXPECT_EQ(kernels_of(compile(graph, devices_of(*backend), options)), Names{"neg.int8"});
  options.coarsest = Arithmetic::half;
  EXPECT_EQ(kernels_of(compile(graph, devices_of(*backend), options)), Names{"neg.test"});
}

TEST(SelectOptions, FallbackLowersTheWholeGraph) {
  const auto backend = test_backend(1, {kMlpResidual, kMlp, kResidual});
  const GptGraph gpt;
  CompileOptions options;
  options.fallback = true;
  const Plan plan = compile(gpt.graph, devices_of(*backend), options);
  for (const Step& step : plan.steps) EXPECT_TRUE(step.match.node().op->primitive()) << step.kernel->name;
  ASSERT_FALSE(plan.refusals.empty());
  EXPECT_EQ(plan.refusals[0].reasons, Names{"the fallback was asked for"});
}

TEST(SelectOptions, DeadNodesAreNotPlanned) {
  const auto backend = test_backend(1);
  Graph graph;
  const Value x = graph.input("x", f32_type({4}));
  exp(graph.input("unused", f32_type({4})));
  graph.output("y", neg(x));
  const Plan plan = compile(graph, devices_of(*backend));
  EXPECT_EQ(kernels_of(plan), Names{"neg.test"});
  EXPECT_EQ(plan.graph->size(), 2);
}

}  // namespace
}  // namespace weft::testing
