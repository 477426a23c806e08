// WEFT_CHECK: a kernel that is wrong is found on the running model and named, with the element that shows it.
#include "backends/ref/ref.h"
#include "graph/runner.h"
#include "tests/support/gpt_graph.h"
#include "tests/support/op_fixture.h"
#include "tests/support/plan_check.h"
#include "tests/support/test_backend.h"

namespace weft::testing {
namespace {

/// exp in layer "mlp" of a small graph, by a kernel that adds `wrong` to element 3.
std::string check(const char* mode, float wrong, int64_t live = 4, Arithmetic arithmetic = Arithmetic::f32) {
  Kernel kernel = TestBackend::kernel("exp.wrong", {"exp"}, [wrong](const Call& call) {
    for (int i = 0; i < 4; ++i) call.out[0].as<float>()[i] = std::exp(call.input(0).as<float>()[i]);
    call.out[0].as<float>()[3] += wrong;
  });
  kernel.arithmetic = arithmetic;
  Env env;
  env.check_ref = std::string_view(mode) == "ref";
  env.check_nan = std::string_view(mode) == "nan";
  Runtime runtime(env, backends(test_backend(1, {kernel}), make_ref_backend()));
  Graph graph;
  Value x = graph.input("x", f32_type({4}, Rows::tokens));
  {
    const Graph::Scope scope(graph, "mlp");
    x = exp(neg(x));
  }
  graph.output("y", tanh(x));
  Memory memory;
  Runner runner(compile(graph, runtime.devices("test")), runtime, memory);
  runner.write("x", std::span<const float>(std::vector<float>{0, 0, 0, 0}));
  return error_of([&] { runner.run({.tokens = live}); });
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(StepCheck, ARightKernelPasses) {
  EXPECT_EQ(check("ref", 0), "");
  EXPECT_EQ(check("nan", 0), "");
}

TEST(StepCheck, RefNamesTheStepAndItsWorstElement) {
  EXPECT_THAT_CONTAINS(check("ref", 0.5f), "WEFT_CHECK: mlp: exp (exp.wrong): output y element 3 is 1.5, ref says 1");
}

TEST(StepCheck, NanNamesTheStepAndTheElement) {
  EXPECT_THAT_CONTAINS(check("nan", kNan), "mlp: exp (exp.wrong): output y holds NaN at element 3");
  EXPECT_THAT_CONTAINS(check("ref", kNan), "holds NaN at element 3");
  EXPECT_EQ(check("nan", 0.5f), "") << "wrong, but a number";
}

TEST(StepCheck, DeadRowsMayHoldAnything) {
  EXPECT_EQ(check("nan", kNan, 3), "");
  EXPECT_EQ(check("ref", 0.5f, 3), "");
}

TEST(StepCheck, ToleranceFollowsTheArithmetic) {
  EXPECT_EQ(check("ref", 0.02f, 4, Arithmetic::int8), "");
  EXPECT_NE(check("ref", 0.02f, 4, Arithmetic::half), "");
  EXPECT_NE(check("ref", 1e-4f), "");
}

TEST(StepCheck, AChainIsHeldAgainstBothFallbacks) {
  // Right: -exp(x) for the chain exp, neg.
  const Kernel chain = TestBackend::kernel("exp.neg", {"exp", "neg"}, [](const Call& call) {
    call.out[0].as<float>()[0] = -std::exp(call.input(0).as<float>()[0]);
  });
  Env env;
  env.check_ref = true;
  Runtime runtime(env, backends(test_backend(1, {chain}), make_ref_backend()));
  Graph graph;
  graph.output("y", neg(exp(graph.input("x", f32_type({1})))));
  Memory memory;
  Runner runner(compile(graph, runtime.devices("test")), runtime, memory);
  ASSERT_EQ(runner.plan().steps.size(), 1u);
  runner.write("x", std::span<const float>(std::vector<float>{2}));
  EXPECT_EQ(error_of([&] { runner.run({}); }), "");
}

TEST(StepCheck, AModelWithStatePassesAndKeepsItsNumbers) {
  const GptGraph gpt;
  std::vector<std::vector<float>> logits;
  for (const bool checked : {false, true}) {
    Env env;
    env.check_ref = checked;
    Runtime runtime(env, backends(test_backend(2), make_ref_backend()));
    Memory memory;
    CompileOptions options;
    options.place = {{"blk.1.*", "test:1"}, {"*", "test:0"}};
    Runner runner(compile(gpt.graph, runtime.devices("test"), options), runtime, memory);
    for (int32_t i = 0; i < 2; ++i) {
      write(runner, gpt.feeds({i + 1}, i));
      runner.run({.tokens = 1, .logits = 1, .sequences = 1, .kv_length = i + 1});
    }
    logits.push_back(read(runner, "logits"));
  }
  EXPECT_EQ(logits[0], logits[1]);
}

}  // namespace
}  // namespace weft::testing
