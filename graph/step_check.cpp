#include "graph/step_check.h"

#include <algorithm>
#include <cmath>

#include "graph/passes/passes.h"
#include "graph/runner.h"

namespace weft {
namespace {

std::vector<float> decode(const TensorType& type, std::span<const std::byte> bytes, int64_t rows) {
  const auto n =
      static_cast<size_t>(type.shape.rank() > 0 && type.shape[0] > 0 ? type.elements() / type.shape[0] * rows : 1);
  std::vector<float> values(n);
  type.dtype->decode(bytes.data(), values.data(), n);
  return values;
}

}  // namespace

StepCheck::StepCheck(const Plan& plan, const Step& step, Runtime& runtime, std::function<std::byte*(Value)> address)
    : plan_(plan), step_(step), runtime_(runtime), address_(std::move(address)) {
  for (const NodeId id : step.match.nodes) {
    for (const Value& value : plan.graph->node(id).in.all()) {
      const bool inside = std::ranges::find(step.match.nodes, value.node) != step.match.nodes.end();
      const bool known = std::ranges::any_of(before_, [&](const auto& b) { return b.first == value; });
      if (!inside && !known) before_.emplace_back(value, bytes_of(value));
    }
  }
}

std::vector<std::byte> StepCheck::bytes_of(Value value) const {
  std::vector<std::byte> bytes(value.type().bytes());
  const Device& device = plan_.devices[static_cast<size_t>(step_.device)];
  device.backend->read(device.index, bytes.data(), address_(value), bytes.size());
  return bytes;
}

void StepCheck::after(const Workload& live, bool against_ref) {
  const Graph& graph = *plan_.graph;
  const std::string where = fmt::format("WEFT_CHECK: {} ({})", graph.where(step_.match.node()), step_.kernel->name);
  const NodeId last = step_.match.nodes.back();

  Graph again;
  std::vector<Value> now(graph.n_values());
  for (const auto& [value, bytes] : before_) {
    now[graph.index(value)] = again.input(fmt::format("{}.{}", value.node, value.port), value.type());
  }
  std::vector<Value> out;
  for (const NodeId id : step_.match.nodes) {
    const Node& node = graph.node(id);
    out = again.append(*node.op, node.attrs, node.in.map([&](const Value& v) { return now[graph.index(v)]; }));
    for (size_t port = 0; port < out.size(); ++port) {
      now[graph.index({const_cast<Graph*>(&graph), id, static_cast<uint8_t>(port)})] = out[port];
    }
  }
  std::vector<size_t> ports;
  for (size_t port = 0; port < out.size(); ++port) {
    if (!step_.match.wants(port)) continue;
    ports.push_back(port);
    again.output(std::to_string(port), out[port]);
  }
  if (ports.empty()) return;

  CompileOptions options;
  options.fallback = true;
  options.workload = live;
  Memory memory;
  std::optional<Runner> ref;
  if (against_ref) {
    ref.emplace(compile(again, runtime_.devices("ref"), options), runtime_, memory, /*observable=*/false);
    for (const auto& [value, bytes] : before_) {
      const std::string name = fmt::format("{}.{}", value.node, value.port);
      if (ref->reads_input(name)) ref->write(name, bytes.data(), bytes.size());
    }
    ref->run(live);
  }
  for (const size_t port : ports) {
    const Value value{const_cast<Graph*>(&graph), last, static_cast<uint8_t>(port)};
    const TensorType& type = value.type();
    if (type.dtype->decode == nullptr) continue;
    const int64_t rows = weft::live_rows(type, live);
    const auto got = decode(type, bytes_of(value), rows);
    const auto nan = std::ranges::find_if(got, [](float x) { return std::isnan(x); });
    require(nan == got.end(), "{}: output {} holds NaN at element {}", where, step_.match.last().op->outputs[port].name,
            nan - got.begin());
    if (!against_ref) continue;
    std::vector<std::byte> expected_bytes(type.bytes());
    ref->read(std::to_string(port), expected_bytes.data(), expected_bytes.size());
    const auto expected = decode(type, expected_bytes, rows);
    float scale = 0, worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      scale = std::max(scale, std::abs(expected[i]));
      if (std::abs(got[i] - expected[i]) > worst) {
        worst = std::abs(got[i] - expected[i]);
        at = i;
      }
    }
    require(worst <= tolerance(step_.kernel->arithmetic) * scale,
            "{}: output {} element {} is {}, ref says {} (largest {})", where,
            step_.match.last().op->outputs[port].name, at, got[at], expected[at], scale);
  }
}

}  // namespace weft
