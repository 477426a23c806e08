// schedule: an order that respects data flow and changes devices as rarely as it can, cut into segments, with the
// copies each segment needs before it starts.
#include <algorithm>
#include <set>

#include "graph/passes/passes.h"

namespace weft::passes {

void schedule(Plan& plan) {
  const Graph& graph = *plan.graph;
  std::vector<int> producer(static_cast<size_t>(graph.size()), -1);  // step that writes a node's outputs
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    for (const NodeId id : plan.steps[s].match.nodes) producer[static_cast<size_t>(id)] = static_cast<int>(s);
  }
  std::vector<std::vector<size_t>> readers(plan.steps.size());
  std::vector<int> waits(plan.steps.size(), 0);
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    std::set<int> before;
    for (const NodeId id : plan.steps[s].match.nodes) {
      for (const Value& value : graph.node(id).in.all()) before.insert(producer[static_cast<size_t>(value.node)]);
    }
    for (const int p : before) {
      if (p < 0 || p == static_cast<int>(s)) continue;
      readers[static_cast<size_t>(p)].push_back(s);
      ++waits[s];
    }
  }

  // Ready steps by device and, within one, in graph order; steps that run once come first of all.
  std::vector<std::set<size_t>> ready_once(plan.devices.size()), ready(plan.devices.size());
  const auto make_ready = [&](size_t s) {
    auto& sets = plan.steps[s].once ? ready_once : ready;
    sets[static_cast<size_t>(plan.steps[s].device)].insert(s);
  };
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    if (waits[s] == 0) make_ready(s);
  }
  std::vector<Step> ordered;
  std::vector<bool> arrived(plan.devices.size() * graph.n_values(), false);
  plan.segments.clear();
  int device = -1;
  while (ordered.size() < plan.steps.size()) {
    const bool once = std::ranges::any_of(ready_once, [](const auto& set) { return !set.empty(); });
    auto& sets = once ? ready_once : ready;
    const bool stay = device >= 0 && !sets[static_cast<size_t>(device)].empty() && !plan.segments.empty() &&
                      plan.segments.back().once == once;
    if (!stay) {
      device = -1;
      for (size_t d = 0; d < sets.size(); ++d) {
        if (sets[d].empty()) continue;
        if (device < 0 || *sets[d].begin() < *sets[static_cast<size_t>(device)].begin()) device = static_cast<int>(d);
      }
      plan.segments.push_back({.device = device, .once = once, .steps = {}, .copies = {}});
    }
    SegmentPlan& segment = plan.segments.back();
    auto& queue = sets[static_cast<size_t>(device)];
    const size_t s = *queue.begin();
    queue.erase(queue.begin());
    for (const NodeId id : plan.steps[s].match.nodes) {
      for (const Value& value : graph.node(id).in.all()) {
        const int p = producer[static_cast<size_t>(value.node)];
        if (p < 0 || plan.steps[static_cast<size_t>(p)].device == device) continue;
        const size_t key = static_cast<size_t>(device) * graph.n_values() + graph.index(value);
        // A folded value read by steps of every run is copied by the segment that first needs it, each time.
        if (arrived[key]) continue;
        arrived[key] = true;
        segment.copies.push_back({value, plan.steps[static_cast<size_t>(p)].device, device});
      }
    }
    segment.steps.push_back(ordered.size());
    ordered.push_back(plan.steps[s]);
    for (const size_t reader : readers[s]) {
      if (--waits[reader] == 0) make_ready(reader);
    }
  }
  plan.steps = std::move(ordered);

  plan.predicted_us = predict_us(plan, plan.workload);
}

}  // namespace weft::passes
