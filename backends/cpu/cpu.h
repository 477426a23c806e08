// The host's processors: OpenMP, and kernels compiled once per instruction set.
#pragma once

#include <memory>
#include <string>

#include "graph/backend.h"

namespace weft {

struct CpuOptions {
  int threads = 0;             // 0: performance cores this process may use
  std::string isa;             // empty: the best the machine has
  bool deterministic = false;  // no kernel whose arithmetic depends on how many tokens a step has
};

/// Throws Error if the machine lacks the instruction set.
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options = {});

}  // namespace weft
