// Nodes and chains by a kernel of cuda against their `lower` on ref.
#pragma once

#include "ops/all.h"
#include "tests/backends/cuda_fixture.h"

namespace weft::testing {

class CudaKernels : public ::testing::Test {
 protected:
  void SetUp() override {
    if (backend_->devices().empty()) GTEST_SKIP() << backend_->absent();
  }

  /// The node of id `id` by the kernel of that name, if it takes it. Whether it did.
  bool check(std::string_view name, const std::string& what, OpGraph& g, NodeId id, double within) {
    const Kernel* kernel = find_kernel(*backend_, name);
    EXPECT_NE(kernel, nullptr) << name;
    const size_t n_ports = g.graph.node(id).out.size();
    const Match match{.graph = &g.graph, .nodes = {id}, .uses = std::vector<int>(n_ports, 1)};
    if (kernel == nullptr || kernel->refuses(match, backend_->devices()[0])) return false;
    const Ports got = run_on_device(g, id, *backend_, *kernel);
    EXPECT_EQ(got.size(), n_ports);
    for (uint8_t port = 0; port < n_ports; ++port) g.graph.output(fmt::format("o{}", port), {&g.graph, id, port});
    States states = g.states;
    const Outputs expected = evaluate(g.graph, g.feeds, states, g.live);
    for (size_t port = 0; port < got.size(); ++port) {
      expect_close(live_values(got[port], g.live), live_values(expected.at(fmt::format("o{}", port)), g.live), within,
                   fmt::format("{} {}: output {}", name, what, port));
    }
    return true;
  }

  /// The same of a node that `make` adds. How many ran.
  template <typename Make>
  int check(std::string_view name, const std::string& what, Make make, double within = tolerance(Arithmetic::half)) {
    OpGraph g;
    std::deque<std::vector<std::byte>> store;
    const NodeId id = make(g, store);
    return check(name, what, g, id, within) ? 1 : 0;
  }

  /// A chain of two nodes, of which y is the second's, by one kernel.
  void check_chain(OpGraph& g, Value first, Value y, const Kernel& kernel, const std::string& what) {
    const Ports got = run_on_device(g, {first.node, y.node}, *backend_, kernel);
    ASSERT_EQ(got.size(), 1u);
    g.graph.output("y", y);
    States states = g.states;
    const Outputs expected = evaluate(g.graph, g.feeds, states, g.live);
    expect_close(live_values(got[0], g.live), live_values(expected.at("y"), g.live), tolerance(kernel.arithmetic),
                 what);
  }

  std::unique_ptr<Backend> backend_ = load_cuda_backend();
};

}  // namespace weft::testing
