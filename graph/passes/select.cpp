// select: which kernel runs which nodes. Rounds of choosing and lowering until every node has a kernel.
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "graph/passes/passes.h"

namespace weft::passes {
namespace {

bool is_read(const Graph& graph, NodeId id, std::span<const int> uses) {
  const size_t first = graph.index({const_cast<Graph*>(&graph), id, 0});
  return std::ranges::any_of(uses.subspan(first, graph.node(id).out.size()), [](int n) { return n > 0; });
}

/// The nodes of a chain starting at `id` whose ops are kernel.covers: each but the last is read once, by the next one.
std::optional<Match> match_chain(const Graph& graph, NodeId id, const Kernel& kernel, std::span<const int> uses) {
  Match match{.graph = &graph, .nodes = {id}, .uses = {}};
  for (size_t i = 1; i < kernel.covers.size(); ++i) {
    const NodeId from = match.nodes.back();
    NodeId next = -1;
    int total_uses = 0;
    for (size_t port = 0; port < graph.node(from).out.size(); ++port) {
      total_uses += uses[graph.index({const_cast<Graph*>(&graph), from, static_cast<uint8_t>(port)})];
    }
    if (total_uses != 1) return std::nullopt;
    for (NodeId candidate = from + 1; candidate < graph.size() && next < 0; ++candidate) {
      if (!is_read(graph, candidate, uses)) continue;  // a fallback may leave dead readers
      for (const Value& value : graph.node(candidate).in.all()) {
        if (value.node == from) next = candidate;
      }
    }
    if (next < 0 || graph.node(next).op->name != kernel.covers[i]) return std::nullopt;
    match.nodes.push_back(next);
  }
  const Node& last = match.last();
  for (size_t port = 0; port < last.out.size(); ++port) {
    match.uses.push_back(
        uses[graph.index({const_cast<Graph*>(&graph), match.nodes.back(), static_cast<uint8_t>(port)})]);
  }
  return match;
}

bool wants_packed(const Kernel& kernel, const Match& match) {
  for (size_t n = 0; n < match.nodes.size(); ++n) {
    const auto& in = match.node(n).in;
    for (size_t slot = 0; slot < in.size(); ++slot) {
      for (const Value& value : in.list(slot)) {
        if (kernel.layout_for(match, n, slot, value.type()) != nullptr) return true;
      }
    }
  }
  return false;
}

/// Bytes of the largest tensor, weights aside, among nodes that a fallback of `node` wrote.
size_t largest_expansion(const Graph& graph, NodeId first) {
  size_t largest = 0;
  for (NodeId id = first; id < graph.size(); ++id) {
    for (const TensorType& type : graph.node(id).out) largest = std::max(largest, type.bytes());
  }
  return largest;
}

struct Round {
  std::unique_ptr<Graph> graph;
  Placement placement;
};

/// Copies the live nodes of `graph`, replacing those marked in `lower` by their fallback.
Round expand(const Graph& graph, const Placement& placement, const std::vector<bool>& live,
             const std::vector<bool>& lower, const CompileOptions& options) {
  Round round{std::make_unique<Graph>(), {}};
  std::vector<Value> now(graph.n_values());
  for (NodeId id = 0; id < graph.size(); ++id) {
    const auto index = static_cast<size_t>(id);
    if (!live[index]) continue;
    const Node& node = graph.node(id);
    const Values in = node.in.map([&](const Value& v) { return now[graph.index(v)]; });
    const ScopeId scope = round.graph->intern_scope(graph.scope_name(node));
    std::vector<Value> out;
    const NodeId first = round.graph->size();
    {
      const Graph::Lowering here(*round.graph, node.lowered_from != nullptr ? *node.lowered_from : *node.op, scope,
                                 lower[index] || node.lowered_from != nullptr);
      out = lower[index] ? node.op->lower(node.attrs.get(), in) : round.graph->append(*node.op, node.attrs, in);
    }
    if (lower[index]) {
      const size_t bytes = largest_expansion(*round.graph, first);
      require(bytes <= options.expansion_limit, "{}: its fallback needs a tensor of {} bytes, the limit is {}",
              graph.where(node), bytes, options.expansion_limit);
    }
    round.placement.device.resize(static_cast<size_t>(round.graph->size()), placement.device[index]);
    round.placement.reason.resize(static_cast<size_t>(round.graph->size()),
                                  placement.reason.empty() ? Reason{} : placement.reason[index]);
    for (size_t port = 0; port < node.out.size(); ++port) {
      require(port < out.size() && (!out[port] || out[port].type() == node.out[port]),
              "{}: its fallback returns {} for output {}, its schema says {}", graph.where(node),
              port < out.size() && out[port] ? to_string(out[port].type()) : "nothing", node.op->outputs[port].name,
              to_string(node.out[port]));
      now[graph.index({const_cast<Graph*>(&graph), id, static_cast<uint8_t>(port)})] = out[port];
    }
  }
  for (const auto& output : graph.outputs()) round.graph->output(output.name, now[graph.index(output.value)]);
  return round;
}

}  // namespace

Choice choose_kernel(const Graph& graph, NodeId id, const Device& device, const CompileOptions& options,
                     std::span<const int> uses, bool chains) {
  const Node& node = graph.node(id);
  Choice choice;
  if (options.fallback && !node.op->primitive()) {
    choice.reasons.emplace_back("the fallback was asked for");
    return choice;
  }
  std::vector<const Kernel*> candidates;
  for (const Kernel& kernel : device.backend->kernels()) {
    if (kernel.covers.front() == node.op->name && (chains || kernel.covers.size() == 1)) candidates.push_back(&kernel);
  }
  std::ranges::stable_sort(candidates, std::greater{}, [](const Kernel* k) { return k->covers.size(); });
  const auto wanted = options.kernel.find(node.op->name);
  for (const Kernel* kernel : candidates) {
    if (wanted != options.kernel.end() && kernel->name.find(wanted->second) == std::string::npos) {
      choice.reasons.push_back(fmt::format("{}: not the one that WEFT_KERNEL names", kernel->name));
      continue;
    }
    if (kernel->arithmetic > options.coarsest) {
      choice.reasons.push_back(fmt::format("{}: its arithmetic is coarser than asked for", kernel->name));
      continue;
    }
    std::optional<Match> match = match_chain(graph, id, *kernel, uses);
    if (!match) continue;
    if (kernel->refuses) {
      if (const auto reason = kernel->refuses(*match, device.info())) {
        choice.reasons.push_back(fmt::format("{}: {}", kernel->name, *reason));
        continue;
      }
    }
    if (!options.pack && device.info().host_memory && wants_packed(*kernel, *match)) {
      choice.reasons.push_back(fmt::format("{}: weights are not to be packed", kernel->name));
      continue;
    }
    choice.kernel = kernel;
    choice.match = std::move(*match);
    return choice;
  }
  if (candidates.empty()) choice.reasons.push_back(fmt::format("{} has no kernel for it", device.backend->name()));
  return choice;
}

Plan select(const Graph& graph, std::span<const Device> devices, const Placement& placement,
            const CompileOptions& options) {
  Plan plan;
  plan.devices.assign(devices.begin(), devices.end());
  plan.workload = options.workload;
  plan.packs = options.pack;
  // The first round copies the live nodes as they are, so that the plan owns its graph.
  const std::vector<bool> nothing(static_cast<size_t>(graph.size()), false);
  Round round = expand(graph, placement, live_nodes(graph), nothing, options);
  while (true) {
    const Graph& current = *round.graph;
    const auto live = live_nodes(current);
    const auto uses = count_uses(current, live);
    std::vector<bool> lower(live.size(), false), covered(live.size(), false);
    bool any_lowered = false;
    plan.steps.clear();
    for (NodeId id = 0; id < current.size(); ++id) {
      const auto index = static_cast<size_t>(id);
      const Node& node = current.node(id);
      if (!live[index] || covered[index] || is_source(node)) continue;
      const int device = round.placement.device[index];
      Choice choice = choose_kernel(current, id, devices[static_cast<size_t>(device)], options, uses, true);
      const bool one_device = std::ranges::all_of(
          choice.match.nodes, [&](NodeId n) { return round.placement.device[static_cast<size_t>(n)] == device; });
      if (choice.kernel != nullptr && !one_device) {
        choice = choose_kernel(current, id, devices[static_cast<size_t>(device)], options, uses, false);
      }
      if (choice.kernel != nullptr) {
        for (const NodeId n : choice.match.nodes) covered[static_cast<size_t>(n)] = true;
        Step step;
        step.match = std::move(choice.match);
        step.kernel = choice.kernel;
        step.device = device;
        plan.steps.push_back(std::move(step));
      } else {
        const std::string& name = devices[static_cast<size_t>(device)].info().name;
        require(!node.op->primitive(), "{}: cannot run on {}: {}", current.where(node), name,
                fmt::join(choice.reasons, "; "));
        lower[index] = any_lowered = true;
        plan.refusals.push_back({current.where(node), name, std::move(choice.reasons)});
      }
    }
    if (!any_lowered) break;
    round = expand(current, round.placement, live, lower, options);
  }
  plan.graph = std::move(round.graph);
  plan.node_device = std::move(round.placement.device);
  plan.reasons = std::move(round.placement.reason);
  for (Step& step : plan.steps) {
    for (const NodeId id : step.match.nodes) {
      const Node& node = plan.graph->node(id);
      step.cost += node.op->cost(node.attrs.get(), node.in.map([](const Value& v) { return v.type(); }), node.out,
                                 options.workload);
    }
    step.predicted_us = predict_us(step.cost, devices[static_cast<size_t>(step.device)].info(), *step.kernel);
    if (step.kernel->workspace) step.workspace_bytes = step.kernel->workspace(step.match);
  }
  return plan;
}

double predict_node_us(const Graph& graph, NodeId id, const Device& device, const CompileOptions& options) {
  const Node& node = graph.node(id);
  if (is_source(node)) return 0;
  const std::vector<int> unused(graph.n_values(), 1);
  if (const Kernel* kernel = choose_kernel(graph, id, device, options, unused, false).kernel) {
    const Types in = node.in.map([](const Value& v) { return v.type(); });
    return predict_us(node.op->cost(node.attrs.get(), in, node.out, options.workload), device.info(), *kernel);
  }
  if (node.op->primitive()) return std::numeric_limits<double>::infinity();
  Graph lowered;
  const Values in = node.in.map([&](const Value& v) { return lowered.input("x", v.type()); });
  node.op->lower(node.attrs.get(), in);
  double total = 0;
  for (NodeId n = 0; n < lowered.size(); ++n) total += predict_node_us(lowered, n, device, options);
  return total;
}

}  // namespace weft::passes
