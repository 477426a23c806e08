// Hello, weft: a graph written by hand, run on two backends.
#include <fmt/ranges.h>

#include "backends/all.h"
#include "graph/passes/passes.h"
#include "graph/runner.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "ops/residual_add.h"

int main() {
  using namespace weft;
  std::vector<float> weight = {1, 0, 0, 1, 0, 2, -1, 0, 3};  // [3, 3]
  const std::vector<float> x = {1, 2, 6, 4, 0, 2};           // [2, 3]

  Graph graph;
  const Value in = graph.input("x", f32_type({2, 3}));
  const Value w = graph.weight("w", {f32_type({3, 3}), reinterpret_cast<std::byte*>(weight.data())});
  const Value norm = layer_norm(in, constant(graph, {1, 1, 1}, {3}), constant(graph, {0, 0, 0}, {3}), 1e-5f);
  graph.output("y", graph.add(ResidualAdd{}, {linear(norm, {w}, {}), in, {}, {}, {}})[0]);

  const Env env = Env::from_process();  // WEFT_DEBUG=3 and the others work here too
  Runtime runtime(env, make_backends(env));
  for (const char* backend : {"ref", "cpu"}) {
    Memory memory;
    Runner runner(compile(graph, runtime.devices(backend)), runtime, memory);
    runner.write("x", std::span(x));
    runner.run({.tokens = 2});
    std::vector<float> y(6);
    runner.read("y", y.data(), y.size() * sizeof(float));
    fmt::print("{}: {:.4f}\n", backend, fmt::join(y, " "));
  }
}
