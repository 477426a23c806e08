// The recipe "new op = its header", done once for real: a struct with name, doc, slots, fields, infer and lower is all
// it takes. It builds, checks, prints, plans and runs; no list, no registration, no kernel.
#include "backends/ref/ref.h"
#include "graph/passes/passes.h"
#include "graph/runner.h"
#include "ops/elementwise.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

struct Clamp {
  static constexpr std::string_view name = "clamp", doc = "y = min(max(x, low), high).  x [...] f32   ->   y like x.";
  enum Input { kX };
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};

  float low = 0, high = 1;
  static constexpr auto fields = field_list(field("low", &Clamp::low), field("high", &Clamp::high));

  std::vector<TensorType> infer(const Types& in) const {
    check_dtype(in[kX], quant::f32, "x");
    require(low <= high, "low is {}, above high, {}", low, high);
    return {in[kX]};
  }
  std::vector<Value> lower(const Values& in) const { return {minimum(maximum(in[kX], low), high)}; }
  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    return streaming_cost(in, out, workload);
  }
};

Value clamp(Value x, float low, float high) { return build(Clamp{low, high}, {x})[0]; }

TEST(Recipe, ANewOpRunsOnEveryBackendThroughItsFallback) {
  Graph graph;
  graph.output("y", clamp(graph.input("x", f32_type({4})), -1, 2));
  std::vector<std::unique_ptr<Backend>> backends;
  backends.push_back(make_ref_backend());
  Runtime runtime(Env{}, std::move(backends));
  Memory memory;
  Runner runner(compile(graph, runtime.devices("ref")), runtime, memory);
  const std::vector<float> x = {-5, -0.5f, 1, 9};
  runner.write("x", std::span(x));
  runner.run({});
  std::vector<float> y(4);
  runner.read("y", y.data(), y.size() * sizeof(float));
  EXPECT_EQ(y, (std::vector<float>{-1, -0.5f, 1, 2}));
  EXPECT_THAT_CONTAINS(dump_plan(runner.plan()), "<- clamp lowered");
}

TEST(Recipe, ANewOpIsCheckedAndPrinted) {
  Graph graph;
  const Value x = graph.input("x", f32_type({4}));
  graph.output("y", clamp(x, -1, 2));
  EXPECT_THAT_CONTAINS(dump_text(graph), "clamp(x=$x) {low=-1, high=2} : f32[4]");
  EXPECT_ERROR(clamp(x, 3, 2), "clamp: low is 3, above high, 2");
  EXPECT_ERROR(clamp(graph.input("ids", i32_type({4})), 0, 1), "clamp: x must be f32, given i32[4]");
}

}  // namespace
}  // namespace weft
