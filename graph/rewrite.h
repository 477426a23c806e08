// A graph written anew with some of its nodes replaced.
#pragma once

#include <functional>
#include <memory>

#include "graph/graph.h"

namespace weft {

/// Returns what takes the place of a node's outputs, written to `to` from the inputs `in` there; nothing: the node
/// stays.
using Replacement = std::function<std::vector<Value>(Graph& to, const Node& node, const Values& in)>;

/// Copies the live nodes of a graph, in order, asking for each that is no source. Throws Error if a replacement has
/// other types than what it replaces.
std::unique_ptr<Graph> rewrite(const Graph& graph, const Replacement& replace);

}  // namespace weft
