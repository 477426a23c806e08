// The passes in order, and the loop that keeps a plan within the memory of its devices.
#include <fmt/ranges.h>

#include <algorithm>

#include "graph/passes/passes.h"

namespace weft {

CompileOptions CompileOptions::from(const Env& env) {
  CompileOptions options;
  options.fallback = env.fallback;
  options.kernel = env.kernel;
  return options;
}

Plan compile(const Graph& graph, std::span<const Device> devices, const CompileOptions& options) {
  verify(graph);
  std::vector<size_t> limit, budget;
  for (size_t d = 0; d < devices.size(); ++d) {
    const bool given = d < options.memory_limit.size() && options.memory_limit[d];
    limit.push_back(given ? *options.memory_limit[d] : devices[d].info().memory_bytes);
  }
  budget = limit;
  // place counts weights and state; arenas are known only afterwards, so an overflow lowers that device's budget.
  for (int round = 0; round < 8; ++round) {
    Plan plan = passes::select(graph, devices, passes::place(graph, devices, options, budget), options);
    passes::fold(plan);
    passes::schedule(plan);
    passes::memory(plan);
    bool fits = true;
    for (size_t d = 0; d < devices.size(); ++d) {
      const size_t total = plan.bytes[d].total();
      if (total <= limit[d]) continue;
      fits = false;
      budget[d] -= std::min(budget[d], total - limit[d]);
    }
    if (fits) return plan;
  }
  std::vector<std::string> offered;
  for (size_t d = 0; d < devices.size(); ++d) offered.push_back(fmt::format("{} {}", devices[d].info().name, limit[d]));
  fail("the plan does not fit in memory: its activations come on top of weights and state; bytes offered: {}",
       fmt::join(offered, ", "));
}

}  // namespace weft
