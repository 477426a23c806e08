// The graph: append-only, single-assignment. A Value is a handle that copies freely; a Node is an op, its attributes
// and its inputs. Building checks everything: a node that exists has inferred types.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/schema.h"

namespace weft {

class Graph;
using NodeId = int32_t;
using ScopeId = int32_t;

/// Output `port` of a node. Null (false) is an absent optional input.
struct Value {
  Graph* graph = nullptr;
  NodeId node = -1;
  uint8_t port = 0;

  explicit operator bool() const { return graph != nullptr; }
  const TensorType& type() const;
  friend bool operator==(const Value&, const Value&) = default;
};

struct Node {
  const Schema* op;
  Attrs attrs;
  Slots<Value> in;
  std::vector<TensorType> out;
  ScopeId scope;
  const Schema* lowered_from = nullptr;  // the op whose fallback this node is part of

  template <typename Op>
  const Op* as() const {
    return op->name == Op::name ? static_cast<const Op*>(attrs.get()) : nullptr;
  }
};

// -- sources: what enters a graph -------------------------------------------------------------------------------------

/// Written by the caller before each run.
struct InputOp {
  static constexpr std::string_view name = "input", doc = "A tensor written before each run.";
  static constexpr std::array<SlotSpec, 0> inputs{};
  static constexpr std::array outputs = {OutputSpec{"value"}};
  std::string label;
  TensorType type;
  static constexpr auto fields = field_list(field("label", &InputOp::label), field("type", &InputOp::type));
  std::vector<TensorType> infer(const Types&) const { return {type}; }
  Cost cost(const Types&, const std::vector<TensorType>&, const Workload&) const { return {}; }
};

/// Constant bytes owned by the checkpoint; the weight store keeps one copy per device and layout.
struct WeightOp {
  static constexpr std::string_view name = "weight", doc = "A constant tensor of a model file.";
  static constexpr std::array<SlotSpec, 0> inputs{};
  static constexpr std::array outputs = {OutputSpec{"value"}};
  std::string label;
  Tensor host;
  static constexpr auto fields = field_list(field("label", &WeightOp::label));
  std::vector<TensorType> infer(const Types&) const { return {host.type}; }
  Cost cost(const Types&, const std::vector<TensorType>&, const Workload&) const { return {}; }
};

/// Bytes that outlive a run (the KV cache). The first value of a chain of aliasing updates.
struct StateOp {
  static constexpr std::string_view name = "state", doc = "A tensor kept between runs, zero at first.";
  static constexpr std::array<SlotSpec, 0> inputs{};
  static constexpr std::array outputs = {OutputSpec{"value"}};
  std::string label;
  TensorType type;
  static constexpr auto fields = field_list(field("label", &StateOp::label), field("type", &StateOp::type));
  std::vector<TensorType> infer(const Types&) const { return {type}; }
  Cost cost(const Types&, const std::vector<TensorType>&, const Workload&) const { return {}; }
};

extern template const Schema& schema_of<InputOp>();  // made once, in graph.cpp
extern template const Schema& schema_of<WeightOp>();
extern template const Schema& schema_of<StateOp>();

bool is_source(const Node& node);

// -- the graph
// ---------------------------------------------------------------------------------------------------------

class Graph {
 public:
  struct Output {
    std::string name;
    Value value;
  };

  Graph() = default;
  Graph(const Graph&) = delete;  // Values point to their graph
  Graph& operator=(const Graph&) = delete;

  /// Appends a node and infers its types. Throws Error with scope and op in front if the inputs do not fit.
  template <typename Op>
  std::vector<Value> add(Op op, Values in) {
    return append(schema_of<Op>(), Attrs(std::move(op)), std::move(in));
  }
  std::vector<Value> append(const Schema& op, Attrs attrs, Values in);

  Value input(std::string label, TensorType type) { return add(InputOp{std::move(label), type}, {})[0]; }
  Value weight(std::string label, const Tensor& host) { return add(WeightOp{std::move(label), host}, {})[0]; }
  Value state(std::string label, TensorType type) { return add(StateOp{std::move(label), type}, {})[0]; }
  void output(std::string name, Value value);

  const Node& node(NodeId id) const { return nodes_[static_cast<size_t>(id)]; }
  std::span<const Node> nodes() const { return nodes_; }
  NodeId size() const { return static_cast<NodeId>(nodes_.size()); }
  std::span<const Output> outputs() const { return outputs_; }

  /// A dense number for each value: for tables by value.
  size_t index(Value value) const { return first_value_[static_cast<size_t>(value.node)] + value.port; }
  size_t n_values() const { return n_values_; }

  std::string_view scope_name(ScopeId id) const { return scopes_[static_cast<size_t>(id)]; }
  std::string_view scope_name(const Node& node) const { return scope_name(node.scope); }
  /// "blk.3.attn: qkv_gemm"
  std::string where(const Node& node) const;
  ScopeId intern_scope(std::string_view path);

  /// Names the nodes added while it lives; scopes nest with dots.
  class Scope {
   public:
    Scope(Graph& graph, std::string_view name);
    ~Scope() { graph_.current_scope_ = before_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Graph& graph_;
    ScopeId before_;
  };

  /// Places the nodes added while it lives in a scope and, if `lowered`, marks them as part of the fallback of `op`
  /// (used by the select pass).
  class Lowering {
   public:
    Lowering(Graph& graph, const Schema& op, ScopeId scope, bool lowered);
    ~Lowering();
    Lowering(const Lowering&) = delete;
    Lowering& operator=(const Lowering&) = delete;

   private:
    Graph& graph_;
    ScopeId scope_before_;
    const Schema* op_before_;
  };

 private:
  std::vector<Node> nodes_;
  std::vector<size_t> first_value_;
  size_t n_values_ = 0;
  std::vector<Output> outputs_;
  std::vector<std::string> scopes_ = {""};
  ScopeId current_scope_ = 0;
  const Schema* lowering_ = nullptr;
};

/// Checks what appending cannot: that state is updated in one chain (an aliased value has no other later reader) and
/// outputs exist. Throws Error naming the node.
void verify(const Graph& graph);

/// Nodes reachable from the outputs, by node id. The others are never planned.
std::vector<bool> live_nodes(const Graph& graph);

/// How many live nodes and outputs read each value, by value index.
std::vector<int> count_uses(const Graph& graph, const std::vector<bool>& live);

std::string dump_text(const Graph& graph);
std::string dump_dot(const Graph& graph);

inline const TensorType& Value::type() const { return graph->node(node).out[port]; }

}  // namespace weft
