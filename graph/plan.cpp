#include "graph/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "graph/passes/passes.h"
#include "graph/size_text.h"

namespace weft {
namespace {

std::string_view region_name(ValueSlot::Region region) {
  switch (region) {
    case ValueSlot::Region::none:
      return "none";
    case ValueSlot::Region::arena:
      return "arena";
    case ValueSlot::Region::constant:
      return "constant";
    case ValueSlot::Region::weight:
      return "weight";
    case ValueSlot::Region::state:
      return "state";
  }
  return "";
}

}  // namespace

double predict_us(const Plan& plan, const Workload& live) {
  double total = 0;
  for (const Step& step : plan.steps) {
    if (step.once) continue;
    Cost cost;
    for (const NodeId id : step.match.nodes) {
      const Node& node = plan.graph->node(id);
      cost += node.op->cost(node.attrs.get(), node.in.map([](const Value& v) { return v.type(); }), node.out, live);
    }
    total += predict_us(cost, plan.devices[static_cast<size_t>(step.device)].info(), *step.kernel);
  }
  for (const SegmentPlan& segment : plan.segments) {
    for (const Copy& copy : segment.copies) {
      total += passes::transfer_us(live_bytes(copy.value.type(), live), plan.devices[static_cast<size_t>(copy.from)],
                                   plan.devices[static_cast<size_t>(copy.to)]);
    }
  }
  return total;
}

std::string dump_plan(const Plan& plan) {
  const Graph& graph = *plan.graph;
  std::string text = fmt::format("plan for {} tokens, {} logit rows, {} sequences, kv length {}: {:.1f} us predicted\n",
                                 plan.workload.tokens, plan.workload.logits, plan.workload.sequences,
                                 plan.workload.kv_length, plan.predicted_us);
  for (size_t d = 0; d < plan.devices.size(); ++d) {
    const auto& b = plan.bytes[d];
    text += fmt::format("device {} {}: weights {} B mapped and {} B copied, state {} B, arena {} B, constants {} B\n",
                        d, plan.devices[d].info().name, b.mapped, b.copied, b.state, b.arena, b.constant);
  }
  for (size_t i = 0; i < plan.segments.size(); ++i) {
    const SegmentPlan& segment = plan.segments[i];
    text += fmt::format("segment {} on {}{}\n", i, plan.devices[static_cast<size_t>(segment.device)].info().name,
                        segment.once ? " (once)" : "");
    for (const Copy& copy : segment.copies) {
      text += fmt::format("  copy %{}.{} {} from {}\n", copy.value.node, copy.value.port, to_string(copy.value.type()),
                          plan.devices[static_cast<size_t>(copy.from)].info().name);
    }
    for (const size_t s : segment.steps) {
      const Step& step = plan.steps[s];
      const Node& node = step.match.node();
      text += fmt::format("  {:>4} {:<28} {:<24} {:>10.1f} us {:>12.0f} B{}\n", s, step.kernel->name,
                          graph.scope_name(node), step.predicted_us, step.cost.bytes(),
                          node.lowered_from ? fmt::format("  <- {} lowered", node.lowered_from->name) : "");
    }
  }
  return text + lowered_text(plan);
}

std::string lowered_text(const Plan& plan) {
  std::string text;
  std::vector<std::string> seen;  // one line per reason, not per layer
  for (const Refusal& refusal : plan.refusals) {
    for (const std::string& reason : refusal.reasons) {
      const size_t colon = refusal.where.rfind(": ");
      std::string line =
          fmt::format("lowered {} on {}: {}", refusal.where.substr(colon == std::string::npos ? 0 : colon + 2),
                      refusal.device, reason);
      if (std::ranges::find(seen, line) != seen.end()) continue;
      text += line + "\n";
      seen.push_back(std::move(line));
    }
  }
  return text;
}

std::string dump_memory(const Plan& plan) {
  std::string text;
  for (size_t d = 0; d < plan.devices.size(); ++d) {
    text += fmt::format("device {}: arena {} B\n", plan.devices[d].info().name, plan.bytes[d].arena);
    for (const ValueSlot& slot : plan.slots[d]) {
      if (slot.region != ValueSlot::Region::arena && slot.region != ValueSlot::Region::constant) continue;
      text +=
          fmt::format("  {:>12} +{:<12} steps {:>5}..{:<5} {:<8} %{}.{} {}\n", slot.offset, slot.bytes, slot.first,
                      slot.last, region_name(slot.region), slot.root.node, slot.root.port, to_string(slot.root.type()));
    }
    for (size_t s = 0; s < plan.steps.size(); ++s) {
      const Step& step = plan.steps[s];
      if (static_cast<size_t>(step.device) != d || step.workspace_bytes == 0) continue;
      text += fmt::format("  {:>12} +{:<12} steps {:>5}..{:<5} workspace of {}\n", step.workspace_offset,
                          step.workspace_bytes, s, s, step.kernel->name);
    }
  }
  return text;
}

std::string memory_forecast(const Plan& plan, std::span<const size_t> limits) {
  constexpr std::string_view kRow = "  {:<10} {:>14} {:>14} {:>12} {:>12} {:>12} {:>12}\n";
  std::string text =
      fmt::format(kRow, "device", "weights mapped", "weights copied", "KV cache", "workspace", "must be free", "free");
  for (size_t d = 0; d < plan.devices.size(); ++d) {
    const Plan::DeviceBytes& b = plan.bytes[d];
    text += fmt::format(kRow, plan.devices[d].info().name, size_text(b.mapped), size_text(b.copied), size_text(b.state),
                        size_text(b.arena + b.constant), size_text(b.total()), size_text(limits[d]));
  }
  return text;
}

}  // namespace weft
