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
  const auto make = [&](std::span<const int> node_device) {
    Plan plan = passes::select(graph, devices, node_device, options);
    passes::fold(plan);
    passes::schedule(plan);
    passes::memory(plan);
    return plan;
  };
  const auto fits = [&](const Plan& plan) {
    bool all = true;
    for (size_t d = 0; d < devices.size(); ++d) all = all && plan.bytes[d].total() <= limit[d];
    return all;
  };
  std::optional<Plan> best;
  // place counts weights and state; arenas are known only afterwards, so an overflow lowers that device's budget.
  for (int round = 0; round < 8 && !best; ++round) {
    std::vector<int> node_device;
    try {
      node_device = passes::place(graph, devices, options, budget);
    } catch (const Error&) {
      if (round == 0) throw;
      break;  // nothing fits the lowered budgets
    }
    Plan plan = make(node_device);
    if (fits(plan)) best = std::move(plan);
    for (size_t d = 0; d < devices.size() && !best; ++d) {
      const size_t total = plan.bytes[d].total();
      if (total > limit[d]) budget[d] -= std::min(budget[d], total - limit[d]);
    }
  }
  // Chains, folding and lowered budgets are not in place's estimate: one device alone may prove faster, or fit at last.
  if (devices.size() > 1) {
    for (const std::vector<int>& node_device : passes::place_on_one(graph, devices, options, limit)) {
      Plan plan = make(node_device);
      if (fits(plan) && (!best || plan.predicted_us < best->predicted_us)) best = std::move(plan);
    }
  }
  if (best) return std::move(*best);
  std::vector<std::string> offered;
  for (size_t d = 0; d < devices.size(); ++d) offered.push_back(fmt::format("{} {}", devices[d].info().name, limit[d]));
  fail("the plan does not fit in memory: its activations come on top of weights and state; bytes offered: {}",
       fmt::join(offered, ", "));
}

}  // namespace weft
