// An evaluator without plans: lowers every node as it comes and runs the ref primitives on fresh tensors. The tests'
// independent check of both the definitions and the planner.
#pragma once

#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "backends/ref/primitives.h"
#include "graph/graph.h"
#include "ops/quant/f32.h"

namespace weft::testing {

struct HostTensor {
  TensorType type;
  std::vector<std::byte> bytes;

  Tensor view() { return {type, bytes.data(), nullptr}; }
  /// All elements as f32, ids too.
  std::vector<float> values() const {
    std::vector<float> out(static_cast<size_t>(type.shape.elements()));
    type.dtype->decode(bytes.data(), out.data(), out.size());
    return out;
  }
};

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

using Feeds = std::map<std::string, std::vector<std::byte>, std::less<>>;  // by input; a part of the input will do
using States = std::map<std::string, HostTensor, std::less<>>;             // by state; zero at first
using Outputs = std::map<std::string, HostTensor, std::less<>>;
struct Live {
  int32_t tokens = std::numeric_limits<int32_t>::max(), logits = std::numeric_limits<int32_t>::max();
};

class Evaluator {
 public:
  Evaluator(Graph& graph, const Feeds& feeds, States& states, Live live)
      : graph_(graph), feeds_(feeds), states_(states), live_{live.tokens, live.logits} {}

  Outputs run() {
    const NodeId end = graph_.size();  // lowering appends
    for (NodeId id = 0; id < end; ++id) evaluate(id);
    Outputs outputs;
    for (const auto& output : graph_.outputs()) {
      const Tensor& tensor = tensors_.at(graph_.index(output.value));
      outputs[output.name] = {tensor.type, {tensor.data, tensor.data + tensor.type.bytes()}};
    }
    return outputs;
  }

 private:
  void evaluate(NodeId id) {
    const Node node = graph_.node(id);  // a copy: lowering moves nodes
    if (is_source(node)) return bind(id, 0, source(node));
    if (node.op->primitive()) return run_primitive(id, node);
    const NodeId first = graph_.size();
    const std::vector<Value> lowered = node.op->lower(node.attrs.get(), node.in);
    const NodeId last = graph_.size();
    for (NodeId n = first; n < last; ++n) evaluate(n);
    for (size_t port = 0; port < lowered.size(); ++port) {
      require(lowered[port].type() == node.out[port], "{}: its fallback gives {}, its schema says {}", node.op->name,
              to_string(lowered[port].type()), to_string(node.out[port]));
      bind(id, port, tensors_.at(graph_.index(lowered[port])));
    }
  }

  Tensor source(const Node& node) {
    if (const auto* weight = node.as<WeightOp>()) return weight->host;
    if (const auto* state = node.as<StateOp>()) {
      HostTensor& tensor = states_[state->label];
      if (!tensor.type) tensor = {state->type, std::vector<std::byte>(state->type.bytes())};
      return tensor.view();
    }
    const auto& input = *node.as<InputOp>();
    const Tensor tensor = fresh(input.type);
    const auto fed = feeds_.find(input.label);
    require(fed != feeds_.end(), "nothing was fed to {}", input.label);
    require(fed->second.size() <= input.type.bytes(), "{} was fed too much", input.label);
    if (!fed->second.empty()) std::memcpy(tensor.data, fed->second.data(), fed->second.size());
    return tensor;
  }

  void run_primitive(NodeId id, const Node& node) {
    const ref::Primitive* primitive = ref::find_primitive(node.op->name);
    require(primitive != nullptr, "{} has no fallback and is no primitive of ref", node.op->name);
    Call call;
    call.match = {.graph = &graph_, .nodes = {id}, .uses = std::vector<int>(node.out.size(), 1)};
    call.in.push_back(node.in.map([&](const Value& value) { return tensors_.at(graph_.index(value)); }));
    for (size_t port = 0; port < node.out.size(); ++port) {
      const int alias = node.op->outputs[port].alias;
      Tensor out = alias < 0 ? fresh(node.out[port]) : call.input(static_cast<size_t>(alias));
      out.type = node.out[port];
      call.out.push_back(out);
      bind(id, port, out);
    }
    call.live = live_;
    primitive->run(call, 0, primitive->rows(call));
  }

  void bind(NodeId id, size_t port, const Tensor& tensor) {
    tensors_[graph_.index({&graph_, id, static_cast<uint8_t>(port)})] = tensor;
  }

  /// All ones: NaN as f32, -1 as i32, so that what is read but was never written shows.
  Tensor fresh(const TensorType& type) {
    storage_.emplace_back(type.bytes(), std::byte{0xFF});
    return {type, storage_.back().data(), nullptr};
  }

  Graph& graph_;
  const Feeds& feeds_;
  States& states_;
  int32_t live_[2];
  std::map<size_t, Tensor> tensors_;  // by value index
  std::deque<std::vector<std::byte>> storage_;
};

inline Outputs evaluate(Graph& graph, const Feeds& feeds, States& states, Live live = {}) {
  return Evaluator(graph, feeds, states, live).run();
}
inline Outputs evaluate(Graph& graph, const Feeds& feeds = {}) {
  States none;
  return evaluate(graph, feeds, none);
}

}  // namespace weft::testing
