#include "graph/graph.h"

#include <algorithm>

namespace weft {

template const Schema& schema_of<InputOp>();
template const Schema& schema_of<WeightOp>();
template const Schema& schema_of<StateOp>();

namespace {

void check_slots(const Schema& op, const Values& in) {
  require(in.size() <= op.inputs.size(), "takes {} inputs, given {}", op.inputs.size(), in.size());
  for (size_t slot = 0; slot < op.inputs.size(); ++slot) {
    const SlotSpec& spec = op.inputs[slot];
    const size_t n = in.list(slot).size();
    const bool many = spec.kind == SlotKind::list || spec.kind == SlotKind::optional_list;
    const bool may_be_absent = spec.kind == SlotKind::optional || spec.kind == SlotKind::optional_list;
    require(n > 0 || may_be_absent, "input {} is missing", spec.name);
    require(n <= 1 || many, "input {} takes one value, given {}", spec.name, n);
    for (const Value& value : in.list(slot))
      require(static_cast<bool>(value), "input {} holds a null value", spec.name);
  }
}

}  // namespace

bool is_source(const Node& node) {
  return node.as<InputOp>() != nullptr || node.as<WeightOp>() != nullptr || node.as<StateOp>() != nullptr;
}

std::vector<Value> Graph::append(const Schema& op, Attrs attrs, Values in) {
  Node node{.op = &op,
            .attrs = std::move(attrs),
            .in = std::move(in),
            .out = {},
            .scope = current_scope_,
            .lowered_from = lowering_};
  try {
    check_slots(op, node.in);
    for (const Value& value : node.in.all()) require(value.graph == this, "an input belongs to another graph");
    node.out = op.infer(node.attrs.get(), node.in.map([](const Value& v) { return v.type(); }));
    require(node.out.size() == op.outputs.size(), "infers {} outputs, its schema names {}", node.out.size(),
            op.outputs.size());
    for (const TensorType& type : node.out) check_storable(type);
  } catch (const Error& error) {
    throw error.at(where(node));
  }
  const NodeId id = size();
  const size_t n_out = node.out.size();
  nodes_.push_back(std::move(node));
  first_value_.push_back(n_values_);
  n_values_ += n_out;
  std::vector<Value> out;
  for (size_t port = 0; port < n_out; ++port) out.push_back({this, id, static_cast<uint8_t>(port)});
  return out;
}

void Graph::output(std::string name, Value value) {
  require(value.graph == this, "output {}: the value is null or belongs to another graph", name);
  const auto same = [&](const Output& o) { return o.name == name; };
  require(std::ranges::none_of(outputs_, same), "output {} is named twice", name);
  outputs_.push_back({std::move(name), value});
}

std::string Graph::where(const Node& node) const {
  const std::string_view scope = scope_name(node);
  return scope.empty() ? std::string(node.op->name) : fmt::format("{}: {}", scope, node.op->name);
}

ScopeId Graph::intern_scope(std::string_view path) {
  const auto it = std::ranges::find(scopes_, path);
  if (it != scopes_.end()) return static_cast<ScopeId>(it - scopes_.begin());
  scopes_.emplace_back(path);
  return static_cast<ScopeId>(scopes_.size() - 1);
}

Graph::Scope::Scope(Graph& graph, std::string_view name) : graph_(graph), before_(graph.current_scope_) {
  const std::string_view outer = graph.scope_name(before_);
  graph.current_scope_ = graph.intern_scope(outer.empty() ? std::string(name) : fmt::format("{}.{}", outer, name));
}

Graph::Lowering::Lowering(Graph& graph, const Schema& op, ScopeId scope, bool lowered)
    : graph_(graph), scope_before_(graph.current_scope_), op_before_(graph.lowering_) {
  graph.current_scope_ = scope;
  graph.lowering_ = lowered ? &op : nullptr;
}

Graph::Lowering::~Lowering() {
  graph_.current_scope_ = scope_before_;
  graph_.lowering_ = op_before_;
}

std::vector<bool> live_nodes(const Graph& graph) {
  std::vector<bool> live(static_cast<size_t>(graph.size()), false);
  for (const auto& output : graph.outputs()) live[static_cast<size_t>(output.value.node)] = true;
  for (NodeId id = graph.size() - 1; id >= 0; --id) {
    if (!live[static_cast<size_t>(id)]) continue;
    for (const Value& value : graph.node(id).in.all()) live[static_cast<size_t>(value.node)] = true;
  }
  return live;
}

std::vector<int> count_uses(const Graph& graph, const std::vector<bool>& live) {
  std::vector<int> uses(graph.n_values(), 0);
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (!live[static_cast<size_t>(id)]) continue;
    for (const Value& value : graph.node(id).in.all()) ++uses[graph.index(value)];
  }
  for (const auto& output : graph.outputs()) ++uses[graph.index(output.value)];
  return uses;
}

}  // namespace weft
