// fold: a step whose inputs are all constant computes the same bytes every time, so it runs once, when the plan is
// bound. Weights themselves are never folded: a decoded model must not appear beside the quantized one.
#include <algorithm>

#include "graph/passes/passes.h"

namespace weft::passes {
namespace {
constexpr size_t kLargestFolded = size_t{16} << 20;  // bytes of one folded tensor
}

void fold(Plan& plan) {
  const Graph& graph = *plan.graph;
  std::vector<bool> constant(static_cast<size_t>(graph.size()), false);
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (is_source(node)) {
      constant[static_cast<size_t>(id)] = node.as<WeightOp>() != nullptr;
      continue;
    }
    constant[static_cast<size_t>(id)] =
        node.op->foldable &&
        std::ranges::all_of(node.in.all(), [&](const Value& v) { return constant[static_cast<size_t>(v.node)]; }) &&
        std::ranges::all_of(node.out, [](const TensorType& t) { return t.bytes() <= kLargestFolded; });
  }
  for (Step& step : plan.steps) {
    step.once = std::ranges::all_of(step.match.nodes, [&](NodeId n) { return constant[static_cast<size_t>(n)]; });
  }
}

}  // namespace weft::passes
