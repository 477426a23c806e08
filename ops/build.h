// Adding a node through its inputs, so that definitions read like formulas.
#pragma once

#include "graph/graph.h"

namespace weft {

/// All outputs of a new node in the graph of its inputs.
template <typename Op>
std::vector<Value> build(Op op, Values in) {
  require(!in.all().empty() && in.all().front(), "{}: every input is absent", Op::name);
  Graph& graph = *in.all().front().graph;
  return graph.add(std::move(op), std::move(in));
}

/// The items of a list slot, to pass on to another op.
inline std::vector<Value> items(const Values& in, size_t slot) {
  const auto list = in.list(slot);
  return {list.begin(), list.end()};
}

}  // namespace weft
