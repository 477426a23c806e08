// What one sees: WEFT_TRACE and WEFT_DUMP files of a run. A trace that a viewer cannot open is no trace.
#include "graph/trace.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/gpt_graph.h"
#include "tests/support/op_fixture.h"
#include "tests/support/plan_check.h"
#include "tests/support/test_backend.h"

namespace weft::testing {
namespace {

class TraceTest : public ::testing::Test {
 protected:
  std::filesystem::path file = std::filesystem::temp_directory_path() / fmt::format("weft_trace_test.{}", getpid());
  ~TraceTest() override { std::filesystem::remove(file); }

  std::string text() const {
    std::ostringstream all;
    all << std::ifstream(file).rdbuf();
    return all.str();
  }
  /// Steps of the plan that ran, once, under these switches.
  size_t run(const Env& env, bool observable = true) {
    const GptGraph gpt;
    Runtime runtime(env, backends(test_backend(1)));
    Memory memory;
    Runner runner(compile(gpt.graph, runtime.devices("test")), runtime, memory, observable);
    write(runner, gpt.feeds({1, 2}, 0));
    runner.run({.tokens = 2, .logits = 1, .sequences = 1, .kv_length = 2});
    return static_cast<size_t>(std::ranges::count(runner.plan().steps, false, &Step::once));
  }
};

TEST_F(TraceTest, IsJsonWithEveryStep) {
  Env env;
  env.trace_file = file;
  const size_t n_steps = run(env);
  const auto events = nlohmann::json::parse(text()).at("traceEvents");
  ASSERT_EQ(events.size(), n_steps);
  double end = 0;
  int n_fused = 0;
  for (const auto& event : events) {
    EXPECT_EQ(event.at("ph"), "X");
    n_fused += event.at("cat") == "fused" ? 1 : 0;
    EXPECT_GE(event.at("ts").get<double>() + 1e-3, end) << "steps follow one another";
    end = event["ts"].get<double>() + event.at("dur").get<double>();
    EXPECT_FALSE(event.at("args").at("kernel").get<std::string>().empty());
  }
  EXPECT_EQ(n_fused, 1) << "gather_rows of the wanted rows; all else is a fallback here";
}

TEST_F(TraceTest, NamesAreEscaped) {
  Trace trace;
  trace.record({.op = "op", .scope = "a \"quoted\\ name\n", .kernel = "k", .device = "d", .cost = {}});
  ASSERT_TRUE(trace.write_chrome(file));
  EXPECT_EQ(nlohmann::json::parse(text())["traceEvents"][0]["args"]["scope"], "a \"quoted\\ name\n");
}

TEST_F(TraceTest, WhatIsNotObservableIsNotTraced) {
  Env env;
  env.trace_file = file;
  run(env, /*observable=*/false);
  EXPECT_TRUE(nlohmann::json::parse(text()).at("traceEvents").empty());
}

TEST_F(TraceTest, AFileThatCannotBeWrittenIsSaid) { EXPECT_FALSE(Trace().write_chrome("/nonexistent/trace.json")); }

TEST_F(TraceTest, TheTableAddsUpByKernel) {
  Trace trace;
  for (int i = 0; i < 2; ++i) {
    trace.record({.op = "linear",
                  .scope = "blk",
                  .kernel = "linear.avx2",
                  .device = "cpu",
                  .lowered = false,
                  .start_us = 0,
                  .time_us = 100,
                  .cost = {.flops = 1e6, .weight_bytes = 2e6},
                  .limit_us = 50});
  }
  trace.record(
      {.op = "exp", .scope = "", .kernel = "exp.ref", .device = "cpu", .lowered = true, .time_us = 200, .cost = {}});
  const std::string table = trace.table();
  EXPECT_THAT_CONTAINS(
      table, "linear.avx2                                 2        200.0   50.0%     20.00      10.00     50.0%");
  EXPECT_THAT_CONTAINS(table, "exp.ref (lowered)");
}

TEST_F(TraceTest, DumpsOfEveryKind) {
  const std::pair<const char*, const char*> kinds[] = {{"graph", "<- qkv_gemm lowered"},
                                                       {"dot", "digraph weft {"},
                                                       {"plan", "segment 0 on test:0"},
                                                       {"memory", "device test:0: arena"}};
  for (const auto& [kind, part] : kinds) {
    std::filesystem::remove(file);
    Env env;
    env.dump_what = kind;
    env.dump_file = file;
    run(env);
    EXPECT_THAT_CONTAINS(text(), part);
  }
}

TEST_F(TraceTest, ADumpThatCannotBeWrittenIsAnError) {
  Env env;
  env.dump_what = "plan";
  env.dump_file = "/nonexistent/plan.txt";
  EXPECT_ERROR(run(env), "WEFT_DUMP: cannot write /nonexistent/plan.txt");
}

}  // namespace
}  // namespace weft::testing
