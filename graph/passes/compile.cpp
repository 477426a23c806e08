// The passes in order, and the loop that keeps a plan within the memory of its devices.
#include <fmt/ranges.h>

#include <algorithm>

#include "graph/passes/passes.h"
#include "graph/size_text.h"
#include "graph/weight_store.h"

namespace weft {

CompileOptions CompileOptions::from(const Env& env) {
  CompileOptions options;
  options.fallback = env.fallback;
  options.kernel = env.kernel;
  return options;
}

namespace {

Plan make(const Graph& graph, std::span<const Device> devices, const CompileOptions& options,
          const passes::Placement& placement) {
  Plan plan = passes::select(graph, devices, placement, options);
  passes::fold(plan);
  passes::schedule(plan);
  passes::memory(plan, options.memory);
  return plan;
}

/// Bytes of a device that are taken once the plan is bound, with what is there already: one arena serves all plans.
size_t taken(const Plan& plan, size_t d, const Memory* held) {
  const Plan::DeviceBytes& bytes = plan.bytes[d];
  if (held == nullptr) return bytes.total();
  const size_t arena = std::max(bytes.arena, held->arena_bytes(plan.devices[d]));
  return bytes.total() - bytes.arena - bytes.held + arena + held->weights.owned_bytes(plan.devices[d]);
}

/// The fastest plan found that keeps within `limit`, bytes by device.
std::optional<Plan> fit(const Graph& graph, std::span<const Device> devices, const CompileOptions& options,
                        std::span<const size_t> limit) {
  const auto fits = [&](const Plan& plan) {
    bool all = true;
    for (size_t d = 0; d < devices.size(); ++d) all = all && taken(plan, d, options.memory) <= limit[d];
    return all;
  };
  std::optional<Plan> best;
  std::vector<size_t> budget(limit.begin(), limit.end());
  for (size_t d = 0; d < devices.size() && options.memory != nullptr; ++d) {
    const size_t held = options.memory->weights.owned_bytes(devices[d]) + options.memory->arena_bytes(devices[d]);
    budget[d] -= std::min(budget[d], held);
  }
  const std::vector<size_t> offered = budget;
  // place counts weights and state; arenas are known only afterwards, so an overflow lowers that device's budget.
  for (int round = 0; round < 8 && !best; ++round) {
    const auto placement = passes::place(graph, devices, options, budget);
    if (!placement) break;
    Plan plan = make(graph, devices, options, *placement);
    for (size_t d = 0; d < devices.size(); ++d) {
      const size_t total = taken(plan, d, options.memory);
      if (total > limit[d]) budget[d] -= std::min(budget[d], total - limit[d]);
    }
    if (fits(plan)) best = std::move(plan);
  }
  // Chains, folding and lowered budgets are not in place's estimate: one device alone may prove faster, or fit at last.
  if (devices.size() > 1) {
    for (const passes::Placement& placement : passes::place_on_one(graph, devices, options, offered)) {
      Plan plan = make(graph, devices, options, placement);
      if (fits(plan) && (!best || plan.predicted_us < best->predicted_us)) best = std::move(plan);
    }
  }
  return best;
}

}  // namespace

Plan compile(const Graph& graph, std::span<const Device> devices, const CompileOptions& options) {
  verify(graph);
  std::vector<size_t> limit;
  for (size_t d = 0; d < devices.size(); ++d) {
    const bool given = d < options.memory_limit.size() && options.memory_limit[d];
    limit.push_back(given ? *options.memory_limit[d] : devices[d].info().memory_bytes);
  }
  if (auto plan = fit(graph, devices, options, limit)) return std::move(*plan);
  CompileOptions frugal = options;
  frugal.pack = false;
  if (options.pack) {
    if (auto plan = fit(graph, devices, frugal, limit)) return std::move(*plan);
  }
  // What it would take, were there enough.
  const auto placement = passes::place(graph, devices, frugal, std::vector<size_t>(devices.size(), SIZE_MAX));
  require(
      placement.has_value(),
      "the graph cannot be placed: --place and the devices of its states leave no device for an op or for all users "
      "of a state");
  const Plan wanted = make(graph, devices, frugal, *placement);
  std::vector<std::string> needed, given;
  for (size_t d = 0; d < devices.size(); ++d) {
    const std::string& name = devices[d].info().name;
    const Plan::DeviceBytes& b = wanted.bytes[d];
    const size_t all = taken(wanted, d, options.memory);
    if (all > 0) {
      std::string parts = fmt::format("weights {}, KV cache {}, workspace {}", size_text(b.copied), size_text(b.state),
                                      size_text(b.arena + b.constant));
      if (all > b.total()) parts += fmt::format(", other plans {}", size_text(all - b.total()));
      needed.push_back(fmt::format("{} of {} ({})", size_text(all), name, parts));
    }
    given.push_back(fmt::format("{} of {}", size_text(limit[d]), name));
  }
  fail("the plan does not fit in memory: it takes {}; free are {}", fmt::join(needed, " and "),
       fmt::join(given, " and "));
}

}  // namespace weft
