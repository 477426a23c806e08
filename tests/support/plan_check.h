// What a plan promises, worked out again from its steps and slots alone: bytes, time, order, copies.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "graph/passes/passes.h"

namespace weft::testing {

inline std::vector<Device> devices_of(Backend& backend) {
  std::vector<Device> devices;
  for (int i = 0; i < static_cast<int>(backend.devices().size()); ++i) devices.push_back({&backend, i});
  return devices;
}

/// The plan's steps that start with this op.
inline std::vector<const Step*> steps_of(const Plan& plan, std::string_view op) {
  std::vector<const Step*> found;
  for (const Step& step : plan.steps) {
    if (step.match.node().op->name == op) found.push_back(&step);
  }
  return found;
}

/// Whose bytes a value is.
inline Value root_of(const Graph& graph, Value value) {
  while (true) {
    const Node& node = graph.node(value.node);
    const int alias = node.op->outputs[value.port].alias;
    if (alias < 0) return value;
    value = node.in[static_cast<size_t>(alias)];
  }
}

inline bool is_weight_or_state(const Graph& graph, Value value) {
  const Node& node = graph.node(value.node);
  return node.as<WeightOp>() != nullptr || node.as<StateOp>() != nullptr;
}

/// Bytes a device must hold: the state its steps touch, their weights too unless it reads the mapped ones, and the ends
/// of its arena and constants.
inline size_t bytes_on(const Plan& plan, int device) {
  const Graph& graph = *plan.graph;
  std::map<size_t, size_t> owned;  // by value index
  size_t arena = 0, constant = 0;
  for (const Step& step : plan.steps) {
    if (step.device != device) continue;
    arena = std::max(arena, kLiveBytes);
    if (step.workspace_bytes > 0) arena = std::max(arena, step.workspace_offset + step.workspace_bytes);
    for (const NodeId id : step.match.nodes) {
      for (const Value& value : graph.node(id).in.all()) {
        const Value root = root_of(graph, value);
        const bool mapped = graph.node(root.node).as<WeightOp>() != nullptr &&
                            plan.devices[static_cast<size_t>(device)].info().host_memory;
        if (is_weight_or_state(graph, root) && !mapped) owned[graph.index(root)] = root.type().bytes();
      }
    }
  }
  for (const ValueSlot& slot : plan.slots[static_cast<size_t>(device)]) {
    if (slot.region == ValueSlot::Region::arena) arena = std::max(arena, slot.offset + slot.bytes);
    if (slot.region == ValueSlot::Region::constant) constant = std::max(constant, slot.offset + slot.bytes);
  }
  size_t total = arena + constant;
  for (const auto& [index, bytes] : owned) total += bytes;
  return total;
}

/// Roofline of every step, and each value once to each other device that reads it; both ends of a link count.
inline double time_of(const Plan& plan) {
  const Graph& graph = *plan.graph;
  double total = 0;
  std::map<size_t, int> made_on;               // value index -> device
  std::set<std::pair<size_t, int>> delivered;  // (value index, device)
  for (const Step& step : plan.steps) {
    const DeviceInfo& at = plan.devices[static_cast<size_t>(step.device)].info();
    double bytes = 0, flops = 0;
    for (const NodeId id : step.match.nodes) {
      const Node& node = graph.node(id);
      const Cost cost = node.op->cost(node.attrs.get(), node.in.map([](const Value& v) { return v.type(); }), node.out,
                                      plan.workload);
      bytes += cost.weight_bytes + cost.activation_bytes;
      flops += cost.flops;
      for (size_t port = 0; port < node.out.size(); ++port) {
        made_on[graph.index({plan.graph.get(), id, static_cast<uint8_t>(port)})] = step.device;
      }
      for (const Value& value : node.in.all()) {
        const auto made = made_on.find(graph.index(value));
        if (made == made_on.end() || made->second == step.device) continue;
        if (!delivered.insert({made->first, step.device}).second) continue;
        const TensorType& type = value.type();
        const double rows = static_cast<double>(live_rows(type, plan.workload)) / static_cast<double>(type.shape[0]);
        const double moved = static_cast<double>(type.bytes()) * rows;
        double time = 0;
        for (const int end : {made->second, step.device}) {
          const DeviceInfo& info = plan.devices[static_cast<size_t>(end)].info();
          if (info.link_gbps > 0) time += moved / (info.link_gbps * 1e3) + info.link_latency_us;
        }
        const DeviceInfo& from = plan.devices[static_cast<size_t>(made->second)].info();
        total += time > 0 ? time : moved / (from.bandwidth_gbps * 1e3);
      }
    }
    if (!step.once)
      total +=
          std::max(bytes / (at.bandwidth_gbps * 1e3), flops / (at.gflops * 1e3)) + step.kernel->launches * at.launch_us;
  }
  return total;
}

/// Everything a step reads was made before it on its device, or copied there by a segment in between.
inline void expect_order(const Plan& plan) {
  const Graph& graph = *plan.graph;
  std::set<std::pair<size_t, int>> present;  // (value index, device)
  std::set<size_t> made;
  std::vector<bool> ran(plan.steps.size(), false);
  for (const SegmentPlan& segment : plan.segments) {
    for (const Copy& copy : segment.copies) {
      EXPECT_EQ(copy.to, segment.device);
      EXPECT_NE(copy.from, copy.to);
      EXPECT_TRUE(present.contains({graph.index(copy.value), copy.from})) << "copied before it was made";
      EXPECT_TRUE(present.insert({graph.index(copy.value), copy.to}).second) << "copied to where it is already";
    }
    for (const size_t s : segment.steps) {
      const Step& step = plan.steps[s];
      EXPECT_EQ(step.device, segment.device);
      EXPECT_EQ(step.once, segment.once);
      EXPECT_FALSE(ran[s]) << "step " << s << " twice";
      ran[s] = true;
      for (const NodeId id : step.match.nodes) {
        const Node& node = graph.node(id);
        for (const Value& value : node.in.all()) {
          if (is_source(graph.node(value.node))) continue;
          EXPECT_TRUE(present.contains({graph.index(value), step.device}))
              << graph.where(node) << " reads %" << value.node << " that is not there yet";
        }
        for (size_t port = 0; port < node.out.size(); ++port) {
          present.insert({graph.index({plan.graph.get(), id, static_cast<uint8_t>(port)}), step.device});
        }
      }
    }
  }
  EXPECT_EQ(std::ranges::count(ran, true), static_cast<long>(plan.steps.size())) << "steps that never run";
}

/// Steps that read a value, or write it, use bytes that nothing else writes in between. Replays the plan over byte
/// ranges: each write claims its range, each read must find its claim whole.
inline void expect_bytes_hold(const Plan& plan) {
  const Graph& graph = *plan.graph;
  struct Claim {
    size_t begin, end, root;
  };
  std::vector<std::vector<Claim>> claims(plan.devices.size());
  const auto slot_of = [&](Value value, int device) -> const ValueSlot& {
    return plan.slots[static_cast<size_t>(device)][graph.index(root_of(graph, value))];
  };
  const auto claim = [&](int device, size_t begin, size_t bytes, size_t root) {
    auto& list = claims[static_cast<size_t>(device)];
    std::erase_if(list, [&](const Claim& c) { return c.begin < begin + bytes && begin < c.end; });
    if (bytes > 0) list.push_back({begin, begin + bytes, root});
  };
  const auto write = [&](Value value, int device) {
    const ValueSlot& slot = slot_of(value, device);
    if (slot.region != ValueSlot::Region::arena) return;
    EXPECT_EQ(slot.offset % plan.devices[static_cast<size_t>(device)].info().alignment, 0u);
    EXPECT_GE(slot.offset, kLiveBytes) << "over the live counts";
    EXPECT_LE(slot.offset + slot.bytes, plan.bytes[static_cast<size_t>(device)].arena);
    const size_t root = graph.index(root_of(graph, value));
    if (root_of(graph, value) == value) claim(device, slot.offset, slot.bytes, root);
  };
  const auto read = [&](Value value, int device) {
    const ValueSlot& slot = slot_of(value, device);
    ASSERT_NE(slot.region, ValueSlot::Region::none) << "%" << value.node << " has no bytes on device " << device;
    if (slot.region != ValueSlot::Region::arena || slot.bytes == 0) return;
    const size_t root = graph.index(root_of(graph, value));
    const auto& list = claims[static_cast<size_t>(device)];
    EXPECT_TRUE(std::ranges::any_of(
        list,
        [&](const Claim& c) { return c.root == root && c.begin == slot.offset && c.end - c.begin == slot.bytes; }))
        << "%" << value.node << " was overwritten before it was read";
  };
  for (size_t d = 0; d < plan.devices.size(); ++d) {  // inputs are written before the run
    for (NodeId id = 0; id < graph.size(); ++id) {
      const Value value{plan.graph.get(), id, 0};
      if (graph.node(id).as<InputOp>() == nullptr) continue;
      if (plan.slots[d][graph.index(value)].region != ValueSlot::Region::none) write(value, static_cast<int>(d));
    }
  }
  for (const SegmentPlan& segment : plan.segments) {
    for (const Copy& copy : segment.copies) {
      read(copy.value, copy.from);
      const Value root = root_of(graph, copy.value);
      const ValueSlot& slot = slot_of(root, copy.to);
      if (slot.region == ValueSlot::Region::arena) claim(copy.to, slot.offset, slot.bytes, graph.index(root));
    }
    for (const size_t s : segment.steps) {
      const Step& step = plan.steps[s];
      const auto inside = [&](Value v) {
        return std::ranges::find(step.match.nodes, v.node) != step.match.nodes.end();
      };
      // Outputs and workspace first: they must not lie over what the step reads.
      for (size_t port = 0; port < step.match.uses.size(); ++port) {
        if (step.match.wants(port))
          write({plan.graph.get(), step.match.nodes.back(), static_cast<uint8_t>(port)}, step.device);
      }
      if (step.workspace_bytes > 0)
        claim(step.device, step.workspace_offset, step.workspace_bytes, graph.n_values() + s);
      for (const NodeId id : step.match.nodes) {
        for (const Value& value : graph.node(id).in.all()) {
          if (!inside(value)) read(value, step.device);
        }
      }
      for (size_t port = 0; port < step.match.uses.size(); ++port) {
        if (step.match.wants(port))
          read({plan.graph.get(), step.match.nodes.back(), static_cast<uint8_t>(port)}, step.device);
      }
    }
  }
  for (const auto& output : graph.outputs()) {
    read(output.value, plan.node_device[static_cast<size_t>(output.value.node)]);
  }
  for (NodeId id = 0; id < graph.size(); ++id) {  // and the inputs are whole for the next run
    const Value value{plan.graph.get(), id, 0};
    if (graph.node(id).as<InputOp>() == nullptr) continue;
    for (size_t d = 0; d < plan.devices.size(); ++d) {
      if (plan.slots[d][graph.index(value)].region != ValueSlot::Region::none) read(value, static_cast<int>(d));
    }
  }
}

}  // namespace weft::testing
