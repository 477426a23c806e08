#include "graph/graph.h"

namespace weft {
namespace {

/// A node that writes into the bytes of its input `slot` (as against one that only views them).
bool overwrites(const Graph& graph, const Node& node, size_t slot) {
  for (const OutputSpec& output : node.op->outputs) {
    if (output.alias != static_cast<int>(slot)) continue;
    // A view (reshape) hands on bytes it did not write; only chains that start at a state are updates.
    Value value = node.in[slot];
    while (value) {
      const Node& from = graph.node(value.node);
      if (from.as<StateOp>() != nullptr) return true;
      const int alias = from.op->outputs[value.port].alias;
      if (alias < 0) return false;
      value = from.in[static_cast<size_t>(alias)];
    }
  }
  return false;
}

}  // namespace

void verify(const Graph& graph) {
  require(!graph.outputs().empty(), "a graph needs at least one output");
  std::vector<NodeId> updater(graph.n_values(), -1);
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    for (size_t slot = 0; slot < node.in.size(); ++slot) {
      for (const Value& value : node.in.list(slot)) {
        const NodeId by = updater[graph.index(value)];
        require(by < 0, "{}: reads {} after {} has overwritten it", graph.where(node), node.op->inputs[slot].name,
                by < 0 ? "" : graph.where(graph.node(by)));
      }
    }
    for (size_t slot = 0; slot < node.in.size(); ++slot) {
      if (!overwrites(graph, node, slot)) continue;
      for (const Value& value : node.in.list(slot)) updater[graph.index(value)] = id;
    }
  }
  for (const auto& output : graph.outputs()) {
    require(updater[graph.index(output.value)] < 0, "output {} is overwritten by {}", output.name,
            graph.where(graph.node(std::max(0, updater[graph.index(output.value)]))));
  }
}

}  // namespace weft
