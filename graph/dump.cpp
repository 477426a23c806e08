#include "graph/graph.h"

namespace weft {
namespace {

std::string value_name(const Graph& graph, Value value) {
  const Node& node = graph.node(value.node);
  if (const auto* weight = node.as<WeightOp>()) return weight->label;
  if (const auto* input = node.as<InputOp>()) return "$" + input->label;
  if (const auto* state = node.as<StateOp>()) return "@" + state->label;
  return node.out.size() == 1 ? fmt::format("%{}", value.node) : fmt::format("%{}.{}", value.node, value.port);
}

std::string input_list(const Graph& graph, const Node& node) {
  std::string text;
  for (size_t slot = 0; slot < node.in.size(); ++slot) {
    const auto items = node.in.list(slot);
    if (items.empty()) continue;
    if (!text.empty()) text += ", ";
    text += fmt::format("{}=", node.op->inputs[slot].name);
    for (size_t i = 0; i < items.size(); ++i) text += (i > 0 ? "|" : "") + value_name(graph, items[i]);
  }
  return text;
}

}  // namespace

std::string dump_text(const Graph& graph) {
  std::string text;
  const auto live = live_nodes(graph);
  ScopeId scope = -1;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (!live[static_cast<size_t>(id)] || is_source(node)) continue;
    if (node.scope != scope) {
      scope = node.scope;
      text += fmt::format("# {}\n", scope == 0 ? "(top)" : graph.scope_name(scope));
    }
    std::string types;
    for (const TensorType& type : node.out) types += (types.empty() ? "" : ", ") + to_string(type);
    const std::string attributes = node.op->attributes(node.attrs.get());
    const std::string braced = attributes.empty() ? "" : fmt::format(" {{{}}}", attributes);
    const std::string origin =
        node.lowered_from == nullptr ? "" : fmt::format("   <- {} lowered", node.lowered_from->name);
    text += fmt::format("%{} = {}({}){} : {}{}\n", id, node.op->name, input_list(graph, node), braced, types, origin);
  }
  for (const auto& output : graph.outputs()) {
    text += fmt::format("output {} = {}\n", output.name, value_name(graph, output.value));
  }
  return text;
}

std::string dump_dot(const Graph& graph) {
  std::string text = "digraph weft {\n  node [shape=box, fontname=monospace];\n";
  const auto live = live_nodes(graph);
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (!live[static_cast<size_t>(id)] || node.as<WeightOp>() != nullptr) continue;
    const std::string label = is_source(node) ? value_name(graph, {const_cast<Graph*>(&graph), id, 0})
                                              : fmt::format("{}\\n{}", node.op->name, graph.scope_name(node));
    text += fmt::format("  n{} [label=\"{}\"{}];\n", id, label, node.lowered_from ? ", style=dashed" : "");
    for (const Value& value : node.in.all()) {
      if (graph.node(value.node).as<WeightOp>() != nullptr) continue;
      text += fmt::format("  n{} -> n{} [label=\"{}\"];\n", value.node, id, to_string(value.type()));
    }
  }
  return text + "}\n";
}

}  // namespace weft
