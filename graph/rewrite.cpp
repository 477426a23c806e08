#include "graph/rewrite.h"

namespace weft {

std::unique_ptr<Graph> rewrite(const Graph& graph, const Replacement& replace) {
  auto to = std::make_unique<Graph>();
  const auto live = live_nodes(graph);
  std::vector<Value> now(graph.n_values());
  const auto index = [&](NodeId id, size_t port) {
    return graph.index({const_cast<Graph*>(&graph), id, static_cast<uint8_t>(port)});
  };
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (!live[static_cast<size_t>(id)]) continue;
    const Node& node = graph.node(id);
    const Values in = node.in.map([&](const Value& v) { return now[graph.index(v)]; });
    const ScopeId scope = to->intern_scope(graph.scope_name(node));
    std::vector<Value> out;
    if (!is_source(node)) {
      const Graph::Lowering here(*to, node.lowered_from != nullptr ? *node.lowered_from : *node.op, scope, true);
      out = replace(*to, node, in);
    }
    if (out.empty()) {
      const Graph::Lowering here(*to, node.lowered_from != nullptr ? *node.lowered_from : *node.op, scope,
                                 node.lowered_from != nullptr);
      out = to->append(*node.op, node.attrs, in);
    }
    for (size_t port = 0; port < node.out.size(); ++port) {
      require(port < out.size() && (!out[port] || out[port].type() == node.out[port]),
              "{}: its replacement gives {} for output {}, expected {}", graph.where(node),
              port < out.size() && out[port] ? to_string(out[port].type()) : "nothing", port,
              to_string(node.out[port]));
      now[index(id, port)] = out[port];
    }
  }
  for (const auto& output : graph.outputs()) to->output(output.name, now[graph.index(output.value)]);
  return to;
}

}  // namespace weft
