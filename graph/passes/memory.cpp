// memory: the lifetime of every value on every device, and offsets such that what lives together does not overlap.
#include <algorithm>
#include <numeric>
#include <set>
#include <tuple>

#include "graph/passes/passes.h"
#include "graph/weight_store.h"

namespace weft::passes {
namespace {

size_t align_up(size_t n, size_t alignment) { return (n + alignment - 1) / alignment * alignment; }

/// The value whose bytes `value` shares, following aliases.
Value root_of(const Graph& graph, Value value) {
  while (true) {
    const Node& node = graph.node(value.node);
    const int alias = node.op->outputs[value.port].alias;
    if (alias < 0) return value;
    value = node.in[static_cast<size_t>(alias)];
  }
}

/// Weights that a device reads mapped, and those it keeps copies of: each once, as the weight store does.
void count_weights(Plan& plan, const Memory* held) {
  std::set<std::tuple<int, NodeId, std::string_view>> counted;
  for (const Step& step : plan.steps) {
    const Device& device = plan.devices[static_cast<size_t>(step.device)];
    Plan::DeviceBytes& bytes = plan.bytes[static_cast<size_t>(step.device)];
    for (size_t n = 0; n < step.match.nodes.size(); ++n) {
      const auto& in = step.match.node(n).in;
      for (size_t slot = 0; slot < in.size(); ++slot) {
        for (const Value& value : in.list(slot)) {
          const WeightOp* weight = plan.graph->node(value.node).as<WeightOp>();
          if (weight == nullptr) continue;
          const TensorType& type = value.type();
          const Layout* layout = step.kernel->layout_for(step.match, n, slot, type);
          if (!counted.emplace(step.device, value.node, layout != nullptr ? layout->name : "").second) continue;
          const size_t copy = copy_bytes(type, layout, device.info());
          bytes.copied += copy;
          if (held != nullptr && held->weights.has(weight->host, device, layout)) bytes.held += copy;
          if (layout == nullptr && device.info().host_memory) bytes.mapped += type.bytes();
        }
      }
    }
  }
}

/// What a value is on a device, before offsets are known.
class Slots {
 public:
  explicit Slots(Plan& plan) : plan_(plan) {
    plan.slots.assign(plan.devices.size(), std::vector<ValueSlot>(plan.graph->n_values()));
  }

  ValueSlot& touch(Value value, int device, int step, bool constant) {
    const Graph& graph = *plan_.graph;
    const Value root = root_of(graph, value);
    ValueSlot& slot = at(root, device);
    if (slot.region == ValueSlot::Region::none) {
      const Node& node = graph.node(root.node);
      slot.root = root;
      slot.bytes = root.type().bytes();
      slot.first = slot.last = step;
      if (node.as<WeightOp>() != nullptr) slot.region = ValueSlot::Region::weight;
      else if (node.as<StateOp>() != nullptr) slot.region = ValueSlot::Region::state;
      else slot.region = constant ? ValueSlot::Region::constant : ValueSlot::Region::arena;
    }
    slot.first = std::min(slot.first, step);
    slot.last = std::max(slot.last, step);
    return slot;
  }

  ValueSlot& at(Value value, int device) { return plan_.slots[static_cast<size_t>(device)][plan_.graph->index(value)]; }

 private:
  Plan& plan_;
};

}  // namespace

size_t assign_offsets(std::span<Lifetime> items, size_t alignment, size_t reserved) {
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater{}, [&](size_t i) { return items[i].bytes; });
  size_t needed = reserved;
  std::vector<size_t> placed;  // sorted by offset
  for (const size_t i : order) {
    Lifetime& item = items[i];
    size_t offset = align_up(reserved, alignment);
    for (const size_t p : placed) {
      const Lifetime& other = items[p];
      if (other.last < item.first || item.last < other.first) continue;
      if (offset + item.bytes <= other.offset) break;
      offset = std::max(offset, align_up(other.offset + other.bytes, alignment));
    }
    item.offset = offset;
    needed = std::max(needed, offset + item.bytes);
    placed.insert(std::ranges::upper_bound(placed, offset, {}, [&](size_t p) { return items[p].offset; }), i);
  }
  return needed;
}

void memory(Plan& plan, const Memory* held) {
  const Graph& graph = *plan.graph;
  const int end = static_cast<int>(plan.steps.size());
  Slots slots(plan);
  std::vector<bool> once(static_cast<size_t>(graph.size()), false);
  for (const SegmentPlan& segment : plan.segments) {
    for (const size_t s : segment.steps) {
      const Step& step = plan.steps[s];
      for (const NodeId id : step.match.nodes) once[static_cast<size_t>(id)] = step.once;
    }
  }
  const auto touch = [&](Value value, int device, int step) {
    ValueSlot& slot = slots.touch(value, device, step, once[static_cast<size_t>(value.node)]);
    // Inputs are written before the run and may be read again in the next one.
    if (graph.node(slot.root.node).as<InputOp>() != nullptr) {
      slot.first = 0;
      slot.last = end;
    }
  };
  for (const SegmentPlan& segment : plan.segments) {
    const int start = segment.steps.empty() ? 0 : static_cast<int>(segment.steps.front());
    for (const Copy& copy : segment.copies) {
      touch(copy.value, copy.from, start);  // alive at its home until copied
      touch(copy.value, copy.to, start);
    }
    for (const size_t s : segment.steps) {
      const Step& step = plan.steps[s];
      const auto inside = [&](Value value) {
        return value.node != step.match.nodes.back() &&
               std::ranges::find(step.match.nodes, value.node) != step.match.nodes.end();
      };
      for (const NodeId id : step.match.nodes) {
        for (const Value& value : graph.node(id).in.all()) {
          if (!inside(value)) touch(value, segment.device, static_cast<int>(s));
        }
      }
      const NodeId last = step.match.nodes.back();
      for (size_t port = 0; port < step.match.uses.size(); ++port) {
        if (step.match.wants(port)) {
          touch({plan.graph.get(), last, static_cast<uint8_t>(port)}, segment.device, static_cast<int>(s));
        }
      }
    }
  }
  for (const auto& output : graph.outputs()) {
    const int device = plan.node_device[static_cast<size_t>(output.value.node)];
    touch(output.value, device, end);
  }

  plan.bytes.assign(plan.devices.size(), {});
  count_weights(plan, held);
  for (size_t d = 0; d < plan.devices.size(); ++d) {
    const size_t alignment = plan.devices[d].info().alignment;
    std::vector<Lifetime> items;
    std::vector<size_t*> offsets;
    Plan::DeviceBytes& bytes = plan.bytes[d];
    bytes.head = kLiveBytes;
    for (ValueSlot& slot : plan.slots[d]) {
      switch (slot.region) {
        case ValueSlot::Region::none:
        case ValueSlot::Region::weight:
          break;
        case ValueSlot::Region::state:
          bytes.state += slot.bytes;
          break;
        case ValueSlot::Region::constant:
          slot.offset = align_up(bytes.constant, alignment);
          bytes.constant = slot.offset + slot.bytes;
          break;
        case ValueSlot::Region::arena:
          if (graph.node(slot.root.node).as<InputOp>() != nullptr) {
            slot.offset = align_up(bytes.head, alignment);
            bytes.head = slot.offset + slot.bytes;
            break;
          }
          items.push_back({slot.bytes, slot.first, slot.last});
          offsets.push_back(&slot.offset);
          break;
      }
    }
    for (size_t s = 0; s < plan.steps.size(); ++s) {
      Step& step = plan.steps[s];
      if (static_cast<size_t>(step.device) != d || step.workspace_bytes == 0) continue;
      items.push_back({step.workspace_bytes, static_cast<int>(s), static_cast<int>(s)});
      offsets.push_back(&step.workspace_offset);
    }
    const bool idle = items.empty() && std::ranges::none_of(plan.steps, [&](const Step& step) {
                        return static_cast<size_t>(step.device) == d;
                      });
    bytes.arena = idle ? 0 : assign_offsets(items, alignment, bytes.head);  // an idle device may have no memory at all
    for (size_t i = 0; i < items.size(); ++i) *offsets[i] = items[i].offset;
  }
}

}  // namespace weft::passes
