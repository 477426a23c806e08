// Runs one node, or a chain of nodes, through a given kernel on device 0 of a backend.
#pragma once

#include "backends/cuda/cuda.h"
#include "tests/backends/cpu_fixture.h"

namespace weft::testing {

/// The outputs of the last of some nodes by one kernel, of copies on device 0; none if the kernel refuses. Launched
/// twice: the second must find the counters as the first did. Each finds its workspace full of NaN, so that a result
/// shows what was read there and not written, or too early.
inline Ports run_on_device(const OpGraph& g, const std::vector<NodeId>& ids, Backend& backend, const Kernel& kernel) {
  const Node& last = g.graph.node(ids.back());
  std::deque<Buffer> memory;
  const auto copy = [&](TensorType type, const std::byte* bytes, size_t n, const Layout* layout = nullptr) {
    const Buffer& buffer = memory.emplace_back(backend.allocate(0, n));
    backend.write(0, buffer.data(), bytes, n);
    return Tensor{type, buffer.data(), layout};
  };
  const auto copy_all = [&](TensorType type, const std::vector<std::byte>& bytes) {
    return copy(type, bytes.data(), bytes.size());
  };
  Call call;
  call.match = {.graph = &g.graph, .nodes = ids, .uses = std::vector<int>(last.out.size(), 1)};
  const auto bind = [&](Value value, size_t n, size_t slot) {
    const Node& from = g.graph.node(value.node);
    if (std::ranges::find(ids, value.node) != ids.end()) return Tensor{value.type(), nullptr};
    if (const auto* state = from.as<StateOp>()) return copy_all(value.type(), g.states.at(state->label).bytes);
    if (const auto* input = from.as<InputOp>()) return copy_all(value.type(), g.feeds.at(input->label));
    const Tensor& host = from.as<WeightOp>()->host;
    const Layout* layout = kernel.layout_for(call.match, n, slot, host.type);
    if (layout == nullptr) return copy(host.type, host.data, host.type.bytes());
    std::vector<std::byte> packed(layout->bytes(host.type));
    layout->pack(host, packed.data(), 0, host.type.shape.rows());
    return copy(host.type, packed.data(), packed.size(), layout);
  };
  for (size_t n = 0; n < ids.size(); ++n) {
    const Node& node = g.graph.node(ids[n]);
    Slots<Tensor> in;
    for (size_t slot = 0; slot < node.in.size(); ++slot) {
      std::vector<Tensor> items;
      for (const Value& value : node.in.list(slot)) items.push_back(bind(value, n, slot));
      in.add(items);
    }
    call.in.push_back(std::move(in));
  }
  for (size_t port = 0; port < last.out.size(); ++port) {
    const int alias = last.op->outputs[port].alias;
    call.out.push_back(alias >= 0 ? call.input(static_cast<size_t>(alias), ids.size() - 1)
                                  : copy_all(last.out[port], std::vector(last.out[port].bytes(), std::byte{0xFF})));
  }
  const auto reason = kernel.refuses ? kernel.refuses(call.match, backend.devices()[0]) : std::nullopt;
  EXPECT_FALSE(reason.has_value()) << *reason;
  if (reason) return {};
  const std::vector<std::byte> unwritten(kernel.workspace ? kernel.workspace(call.match) : 0, std::byte{0xFF});
  call.workspace = memory.emplace_back(backend.allocate(0, unwritten.size())).data();
  call.live = copy_all(i32_type({2}), bytes_of(std::vector{g.live.tokens, g.live.logits})).as<int32_t>();
  auto steps = backend.begin(0);
  kernel.prepare(call, *steps);
  const auto segment = backend.finish(std::move(steps));
  for (int i = 0; i < 2; ++i) {
    backend.write(0, call.workspace, unwritten.data(), unwritten.size());
    segment->launch();
  }
  segment->wait();
  Ports ports;
  for (const Tensor& out : call.out) {
    ports.push_back({out.type, std::vector<std::byte>(out.type.bytes())});
    backend.read(0, ports.back().bytes.data(), out.data, out.type.bytes());
  }
  return ports;
}
inline Ports run_on_device(const OpGraph& g, NodeId id, Backend& backend, const Kernel& kernel) {
  return run_on_device(g, std::vector{id}, backend, kernel);
}

}  // namespace weft::testing
