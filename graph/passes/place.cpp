// place: a device for each node. Candidates are contiguous runs over the devices in every order (dense models: one
// hand-over a step) found by dynamic programming, then single-node moves; each candidate is judged by the same exact
// evaluation of time and memory, so the result is never over budget and never worse than one device that fits. Nodes
// that may not run on the device of their run (no kernel, --place, a state elsewhere) go where they are fastest.
#include <fnmatch.h>

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "graph/passes/passes.h"
#include "graph/weight_store.h"

namespace weft::passes {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

bool matches(const PlaceRule& rule, const Graph& graph, const Node& node) {
  return fnmatch(rule.pattern.c_str(), fmt::format("{}.{}", graph.scope_name(node), node.op->name).c_str(), 0) == 0;
}

/// The graph as placement sees it: live nodes that are not sources, with their time and memory on each device.
class Problem {
 public:
  Problem(const Graph& graph, std::span<const Device> devices, const CompileOptions& options,
          std::span<const size_t> budget)
      : graph_(graph), devices_(devices), budget_(budget), workload_(options.workload), unused_(graph.n_values(), 1) {
    const auto live = live_nodes(graph);
    for (NodeId id = 0; id < graph.size(); ++id) {
      if (live[static_cast<size_t>(id)] && !is_source(graph.node(id))) items_.push_back(id);
    }
    time_.resize(items_.size() * devices.size());
    held_on_.resize(items_.size(), -1);
    for (size_t i = 0; i < items_.size(); ++i) {
      const std::vector<bool> allowed = allowed_devices(graph.node(items_[i]), options);
      const std::span<double> times = std::span(time_).subspan(i * devices.size(), devices.size());
      for (size_t d = 0; d < devices.size(); ++d) {
        times[d] = allowed[d] ? predict_node_us(graph, items_[i], devices[d], options) : kNever;
        bool held = false;
        owned_.push_back(owned_sources(items_[i], devices[d], options, held));
        if (held && (held_on_[i] < 0 || times[d] < times[static_cast<size_t>(held_on_[i])]))
          held_on_[i] = static_cast<int>(d);
      }
      // What can run nowhere goes anywhere: select then names the node, the device and the reasons.
      if (std::ranges::min(times) == kNever) {
        for (size_t d = 0; d < devices.size(); ++d) times[d] = allowed[d] ? 0 : kNever;
      }
    }
    keep_states_together();
    std::set<std::pair<NodeId, size_t>> counted;
    reserved_.resize(devices.size(), 0);
    for (size_t i = 0; i < items_.size(); ++i) {
      const auto times = std::span(time_).subspan(i * devices.size(), devices.size());
      fastest_.push_back(static_cast<size_t>(std::ranges::min_element(times) - times.begin()));
      const auto choices = std::ranges::count_if(times, [](double t) { return t < kNever; });
      bound_.push_back(devices.size() > 1 && choices == 1);
      if (!bound_[i]) continue;
      for (const auto& [source, bytes] : owned_by(i, fastest_[i])) {
        if (counted.insert({source, fastest_[i]}).second) reserved_[fastest_[i]] += bytes;
      }
    }
  }

  size_t n_items() const { return items_.size(); }
  size_t n_devices() const { return devices_.size(); }
  double time(size_t item, size_t device) const { return time_[item * devices_.size() + device]; }
  /// Where an item goes whose run is on `device`.
  size_t goes_to(size_t item, size_t device) const { return time(item, device) < kNever ? device : fastest_[item]; }
  /// Bytes for runs: those of items that can go nowhere else are set aside.
  size_t budget(size_t device) const { return budget_[device] - std::min(budget_[device], reserved_[device]); }
  size_t owned(size_t item, size_t device) const {
    if (bound_[item]) return 0;
    const Owned& owned = owned_by(item, device);
    return std::accumulate(owned.begin(), owned.end(), size_t{0},
                           [](size_t sum, const auto& o) { return sum + o.second; });
  }
  /// Items where their weights were copied to for plans before this one, or on the host where they are mapped, and the
  /// others where the item before them is: it takes no more memory than there is.
  std::vector<int> as_held() const {
    const auto host = std::ranges::find_if(devices_, [](const Device& device) { return device.info().host_memory; });
    size_t at = host != devices_.end() ? static_cast<size_t>(host - devices_.begin()) : 0;
    const size_t home = at;
    std::vector<int> placement;
    for (size_t i = 0; i < items_.size(); ++i) {
      const bool weights = std::ranges::any_of(owned_by(i, 0), [&](const auto& owned) {
        return graph_.node(owned.first).template as<WeightOp>() != nullptr;
      });
      if (held_on_[i] >= 0) at = static_cast<size_t>(held_on_[i]);
      else if (weights) at = home;
      placement.push_back(static_cast<int>(goes_to(i, at)));
    }
    return placement;
  }
  /// By node of the graph; a source's device is that of a reader.
  Placement by_node(std::span<const int> placement) const {
    const auto n = static_cast<size_t>(graph_.size());
    Placement all{std::vector<int>(n, 0), std::vector<Reason>(n)};
    const std::vector<size_t> used = bytes_used(placement);
    for (size_t i = 0; i < items_.size(); ++i) {
      all.device[static_cast<size_t>(items_[i])] = placement[i];
      all.reason[static_cast<size_t>(items_[i])] = reason_for(i, placement[i], used);
      for (const Value& value : graph_.node(items_[i]).in.all()) {
        if (is_source(graph_.node(value.node))) all.device[static_cast<size_t>(value.node)] = placement[i];
      }
    }
    return all;
  }

  /// Exact: node times plus each value crossing to each device that reads it. Infinite if over memory anywhere or if a
  /// state would be on two devices.
  double evaluate(std::span<const int> placement) const {
    double total = 0;
    const std::vector<size_t> used = bytes_used(placement);
    for (size_t d = 0; d < used.size(); ++d) {
      if (used[d] > budget_[d]) return kNever;
    }
    std::vector<bool> moved(graph_.n_values() * devices_.size(), false);
    std::vector<int> by_node(static_cast<size_t>(graph_.size()), -1), state_on = by_node;
    for (size_t i = 0; i < items_.size(); ++i) {
      const int d = placement[i];
      by_node[static_cast<size_t>(items_[i])] = d;
      total += time(i, static_cast<size_t>(d));
      for (const auto& [source, bytes] : owned_by(i, static_cast<size_t>(d))) {
        if (graph_.node(source).as<StateOp>() == nullptr) continue;
        int& home = state_on[static_cast<size_t>(source)];
        if (home >= 0 && home != d) return kNever;
        home = d;
      }
      for (const Value& value : graph_.node(items_[i]).in.all()) {
        const int from = by_node[static_cast<size_t>(value.node)];
        const size_t move = graph_.index(value) * devices_.size() + static_cast<size_t>(d);
        if (from < 0 || from == d || moved[move]) continue;
        moved[move] = true;
        total += transfer_us(live_bytes(value.type(), workload_), devices_[static_cast<size_t>(from)],
                             devices_[static_cast<size_t>(d)]);
      }
    }
    return total;
  }

  /// Why item `i` is on device `here` where a placement uses so many bytes by device.
  Reason reason_for(size_t i, int here, std::span<const size_t> used) const {
    Reason reason = reasons_[i];
    reason.here_us = time(i, static_cast<size_t>(here));
    for (int d = 0; d < static_cast<int>(devices_.size()); ++d) {
      const double us = time(i, static_cast<size_t>(d));
      if (d == here || us == kNever || (reason.other >= 0 && us >= reason.other_us)) continue;
      reason.other = d;
      reason.other_us = us;
    }
    if (devices_.size() == 1 || reason.kind != Reason::Kind::only) return reason;
    reason.kind = Reason::Kind::unable;
    if (reason.other < 0) return reason;
    const auto other = static_cast<size_t>(reason.other);
    if (reason.here_us <= reason.other_us) reason.kind = Reason::Kind::fastest;
    else reason.kind = used[other] + owned(i, other) > budget_[other] ? Reason::Kind::memory : Reason::Kind::values;
    return reason;
  }

  /// Bytes of values produced before item `cut` and read from it on.
  std::vector<double> crossing_bytes() const {
    std::vector<double> bytes(items_.size() + 1, 0);
    std::vector<size_t> item_of(static_cast<size_t>(graph_.size()), items_.size());
    for (size_t i = 0; i < items_.size(); ++i) item_of[static_cast<size_t>(items_[i])] = i;
    std::vector<size_t> last_use(graph_.n_values(), 0);
    for (size_t i = 0; i < items_.size(); ++i) {
      for (const Value& value : graph_.node(items_[i]).in.all()) last_use[graph_.index(value)] = i;
    }
    for (size_t i = 0; i < items_.size(); ++i) {
      const Node& n = graph_.node(items_[i]);
      for (size_t port = 0; port < n.out.size(); ++port) {
        const size_t last =
            last_use[graph_.index({const_cast<Graph*>(&graph_), items_[i], static_cast<uint8_t>(port)})];
        for (size_t cut = i + 1; cut <= last; ++cut) bytes[cut] += live_bytes(n.out[port], workload_);
      }
    }
    return bytes;
  }

  double transfer(double bytes, size_t from, size_t to) const {
    return transfer_us(bytes, devices_[from], devices_[to]);
  }

 private:
  using Owned = std::vector<std::pair<NodeId, size_t>>;  // (weight or state node, bytes)

  std::vector<size_t> bytes_used(std::span<const int> placement) const {
    std::vector<size_t> used(devices_.size(), 0);
    std::vector<bool> held(static_cast<size_t>(graph_.size()) * devices_.size(), false);
    for (size_t i = 0; i < items_.size(); ++i) {
      const auto d = static_cast<size_t>(placement[i]);
      for (const auto& [source, bytes] : owned_by(i, d)) {
        const size_t key = static_cast<size_t>(source) * devices_.size() + d;
        if (!held[key]) used[d] += bytes;
        held[key] = true;
      }
    }
    return used;
  }

  const Owned& owned_by(size_t item, size_t device) const { return owned_[item * devices_.size() + device]; }

  /// Weights and states an item reads or updates, with the bytes they take of the device. An item that would be
  /// lowered counts its weights as stored: memory() counts exactly.
  Owned owned_sources(NodeId id, const Device& device, const CompileOptions& options, bool& any_held) const {
    Owned owned;
    const Node& node = graph_.node(id);
    const Choice choice = choose_kernel(graph_, id, device, options, unused_, false);
    for (size_t slot = 0; slot < node.in.size(); ++slot) {
      for (Value value : node.in.list(slot)) {
        while (true) {  // follow aliases back to the state
          const Node& from = graph_.node(value.node);
          const int alias = from.op->outputs[value.port].alias;
          if (alias < 0) break;
          value = from.in[static_cast<size_t>(alias)];
        }
        const Node& from = graph_.node(value.node);
        const TensorType& type = from.out[0];
        if (from.as<StateOp>() != nullptr) owned.emplace_back(value.node, type.bytes());
        if (from.as<WeightOp>() == nullptr) continue;
        const Layout* layout = choice.kernel ? choice.kernel->layout_for(choice.match, 0, slot, type) : nullptr;
        const Tensor& host = from.as<WeightOp>()->host;
        const bool held = options.memory != nullptr && options.memory->weights.has(host, device, layout);
        owned.emplace_back(value.node, held ? 0 : copy_bytes(type, layout, device.info()));
        any_held |= held;
      }
    }
    return owned;
  }

  /// All that touches a state runs on one device: where one of them cannot, none can.
  void keep_states_together() {
    std::map<NodeId, std::vector<size_t>> users;
    for (size_t i = 0; i < items_.size(); ++i) {
      for (const auto& [source, bytes] : owned_by(i, 0)) {
        if (graph_.node(source).as<StateOp>() != nullptr) users[source].push_back(i);
      }
    }
    for (const auto& [state, items] : users) {
      for (size_t d = 0; d < devices_.size(); ++d) {
        if (std::ranges::none_of(items, [&](size_t i) { return time(i, d) == kNever; })) continue;
        for (const size_t i : items) time_[i * devices_.size() + d] = kNever;
      }
    }
  }

  /// Where the node may be, and the reason if that is not everywhere.
  std::vector<bool> allowed_devices(const Node& node, const CompileOptions& options) {
    Reason& reason = reasons_.emplace_back();
    std::vector<bool> allowed(devices_.size(), false);
    const auto allow = [&](auto&& fits) {
      bool any = false;
      for (size_t d = 0; d < devices_.size(); ++d) any |= allowed[d] = fits(devices_[d]);
      return any;
    };
    for (const Value& value : node.in.all()) {
      const StateOp* state = graph_.node(value.node).as<StateOp>();
      const Device home =
          state != nullptr && options.memory != nullptr ? options.memory->states.where(state->label) : Device{};
      if (home.backend == nullptr) continue;
      reason.kind = Reason::Kind::state;
      require(allow([&](const Device& d) { return d.backend == home.backend && d.index == home.index; }),
              "state {} lives on {}, which the plan may not use", state->label, home.info().name);
      return allowed;
    }
    for (const PlaceRule& rule : options.place) {
      if (!matches(rule, graph_, node)) continue;
      reason = {.kind = Reason::Kind::rule, .rule = rule.text()};
      require(allow([&](const Device& d) { return d.info().name == rule.device || d.backend->name() == rule.device; }),
              "{}: there is no such device", rule.text());
      return allowed;
    }
    allow([](const Device&) { return true; });
    return allowed;
  }

  const Graph& graph_;
  std::span<const Device> devices_;
  std::span<const size_t> budget_;
  Workload workload_;
  std::vector<NodeId> items_;
  std::vector<int> unused_;       // uses of each value, for choose_kernel: all 1
  std::vector<double> time_;      // [item][device], microseconds
  std::vector<Owned> owned_;      // [item][device], weights and state an item needs there
  std::vector<int> held_on_;      // device that has copies of the item's weights already; -1 = none
  std::vector<size_t> fastest_;   // device, by item
  std::vector<Reason> reasons_;   // by item: why it may not be everywhere, if so
  std::vector<bool> bound_;       // items that only one of the devices can run
  std::vector<size_t> reserved_;  // bytes of bound items, by device
};

/// Best assignment of contiguous runs to the devices in the given order (a run may be empty).
std::vector<int> contiguous(const Problem& problem, std::span<const size_t> order, std::span<const double> crossing) {
  const size_t n = problem.n_items();
  std::vector<double> best(n + 1, kNever);  // time of the first k items on the devices so far
  std::vector<size_t> last_device(n + 1, order[0]);
  best[0] = 0;
  std::vector<std::vector<size_t>> start(order.size(), std::vector<size_t>(n + 1, 0));
  for (size_t o = 0; o < order.size(); ++o) {
    const size_t device = order[o];
    std::vector<double> next = best;  // an empty run
    std::vector<size_t> next_device = last_device;
    for (size_t k = 0; k <= n; ++k) start[o][k] = k;
    for (size_t first = 0; first < n; ++first) {
      if (best[first] == kNever) continue;
      double time = best[first] + (first == 0 ? 0 : problem.transfer(crossing[first], last_device[first], device));
      size_t bytes = 0;
      for (size_t i = first; i < n; ++i) {
        const size_t at = problem.goes_to(i, device);
        time += problem.time(i, at);
        if (at == device) {
          bytes += problem.owned(i, device);
        } else {
          time += problem.transfer(crossing[i], device, at) + problem.transfer(crossing[i + 1], at, device);
        }
        if (time == kNever || bytes > problem.budget(device)) break;
        if (time < next[i + 1]) {
          next[i + 1] = time;
          next_device[i + 1] = device;
          start[o][i + 1] = first;
        }
      }
    }
    best = std::move(next);
    last_device = std::move(next_device);
  }
  if (best[n] == kNever) return {};
  std::vector<int> placement(n, 0);
  size_t end = n;
  for (size_t o = order.size(); o-- > 0;) {
    for (size_t i = start[o][end]; i < end; ++i) placement[i] = static_cast<int>(problem.goes_to(i, order[o]));
    end = start[o][end];
  }
  return placement;
}

/// Moves single items while that makes the placement faster.
void improve(const Problem& problem, std::vector<int>& placement, double& time) {
  bool better = true;
  for (int round = 0; better && round < 4; ++round) {
    better = false;
    for (size_t i = 0; i < placement.size(); ++i) {
      for (int d = 0; d < static_cast<int>(problem.n_devices()); ++d) {
        if (d == placement[i] || problem.time(i, static_cast<size_t>(d)) == kNever) continue;
        const int kept = placement[i];
        placement[i] = d;
        const double now = problem.evaluate(placement);
        if (now < time) {
          time = now;
          better = true;
        } else {
          placement[i] = kept;
        }
      }
    }
  }
}

}  // namespace

double transfer_us(double bytes, const Device& from, const Device& to) {
  double total = 0;
  for (const Device* device : {&from, &to}) {
    if (device->info().link_gbps > 0) total += bytes / device->info().link_gbps / 1e3 + device->info().link_latency_us;
  }
  return total > 0 ? total : bytes / from.info().bandwidth_gbps / 1e3;
}

std::optional<Placement> place(const Graph& graph, std::span<const Device> devices, const CompileOptions& options,
                               std::span<const size_t> budget) {
  require(!devices.empty(), "there is no device to place the graph on");
  const Problem problem(graph, devices, options, budget);
  std::vector<int> best;
  double best_time = kNever;
  const auto consider = [&](std::vector<int> placement) {
    if (placement.empty() && problem.n_items() > 0) return;
    const double time = problem.evaluate(placement);
    if (time < best_time) {
      best_time = time;
      best = std::move(placement);
    }
  };
  for (size_t d = 0; d < devices.size(); ++d) {
    std::vector<int> placement;
    for (size_t i = 0; i < problem.n_items(); ++i) placement.push_back(static_cast<int>(problem.goes_to(i, d)));
    consider(std::move(placement));
  }
  if (devices.size() > 1) {
    consider(problem.as_held());
    const auto crossing = problem.crossing_bytes();
    std::vector<size_t> order(devices.size());
    std::iota(order.begin(), order.end(), size_t{0});
    // Every order of up to four devices; beyond that, only the given one and its reverse.
    if (devices.size() <= 4) {
      do consider(contiguous(problem, order, crossing));
      while (std::ranges::next_permutation(order).found);
    } else {
      consider(contiguous(problem, order, crossing));
      std::ranges::reverse(order);
      consider(contiguous(problem, order, crossing));
    }
    if (best_time < kNever) improve(problem, best, best_time);
  }
  if (best_time == kNever && problem.n_items() > 0) return std::nullopt;
  return problem.by_node(best);
}

std::vector<Placement> place_on_one(const Graph& graph, std::span<const Device> devices, const CompileOptions& options,
                                    std::span<const size_t> budget) {
  const Problem problem(graph, devices, options, budget);
  std::vector<Placement> placements;
  for (size_t d = 0; d < devices.size(); ++d) {
    const std::vector<int> placement(problem.n_items(), static_cast<int>(d));
    if (problem.evaluate(placement) < kNever) placements.push_back(problem.by_node(placement));
  }
  return placements;
}

std::vector<PlaceRule> idle_rules(const Graph& graph, std::span<const PlaceRule> rules) {
  const auto live = live_nodes(graph);
  std::vector<PlaceRule> idle;
  for (const PlaceRule& rule : rules) {
    bool any = false;
    for (NodeId id = 0; id < graph.size() && !any; ++id) {
      any = live[static_cast<size_t>(id)] && !is_source(graph.node(id)) && matches(rule, graph, graph.node(id));
    }
    if (!any) idle.push_back(rule);
  }
  return idle;
}

}  // namespace weft::passes
