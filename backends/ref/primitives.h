// Every primitive as a function over a range of independent rows: the ref backend runs the whole range, other backends
// may share it out among threads.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "graph/backend.h"

namespace weft::ref {

struct Primitive {
  std::string_view op;
  /// Rows there are now: read from call.live at each run.
  int64_t (*rows)(const Call& call);
  /// Computes rows [first, last); different ranges may run at the same time.
  void (*run)(const Call& call, int64_t first, int64_t last);
};

std::span<const Primitive> elementwise_primitives();
std::span<const Primitive> reduce_primitives();
std::span<const Primitive> movement_primitives();
std::span<const Primitive> matmul_primitives();
std::span<const Primitive> indexing_primitives();
std::span<const Primitive> state_primitives();

/// All of them.
const std::vector<Primitive>& primitives();

/// Null if the op is no primitive.
const Primitive* find_primitive(std::string_view op);

}  // namespace weft::ref
