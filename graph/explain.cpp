// Why a plan is as it is, as a table.
#include "graph/passes/passes.h"
#include "graph/size_text.h"

namespace weft {
namespace {

constexpr std::string_view kRow = "{:<28} {:<8} {:<34} {:>11} {:>10} {:>10}  {}\n";

std::string text_of(const Reason& reason, const Plan& plan) {
  const auto other = [&](std::string_view text) {
    return fmt::format("{:.1f} us here, {:.1f} us on {}{}", reason.here_us, reason.other_us,
                       plan.devices[static_cast<size_t>(reason.other)].info().name, text);
  };
  switch (reason.kind) {
    case Reason::Kind::only:
      return "the only device";
    case Reason::Kind::rule:
      return reason.rule;
    case Reason::Kind::state:
      return "its KV cache is here";
    case Reason::Kind::unable:
      return "no other device can run it";
    case Reason::Kind::fastest:
      return other("");
    case Reason::Kind::memory:
      return other(", which has no room");
    case Reason::Kind::values:
      return other(", away from its values");
  }
  return {};
}

std::string time_text(double us) { return us < 0 ? "-" : fmt::format("{:.1f} us", us); }

}  // namespace

std::string explain_plan(const Plan& plan, const Workload& live, std::span<const double> measured_us) {
  const Graph& graph = *plan.graph;
  std::string text;
  for (size_t d = 0; d < plan.devices.size(); ++d) {
    const DeviceInfo& info = plan.devices[d].info();
    const auto& b = plan.bytes[d];
    text +=
        fmt::format("{} reads {:.1f} GB/s: weights {} mapped and {} copied, KV cache {}, workspace {}, of {} free\n",
                    info.name, info.bandwidth_gbps, size_text(b.mapped), size_text(b.copied), size_text(b.state),
                    size_text(b.arena + b.constant), size_text(info.memory_bytes));
  }
  text += fmt::format(kRow, "node", "device", "kernel", "bytes", "predicted", "measured", "why there");
  double total_us = 0;
  for (const SegmentPlan& segment : plan.segments) {
    const std::string& device = plan.devices[static_cast<size_t>(segment.device)].info().name;
    for (const Copy& copy : segment.copies) {
      const Device &from = plan.devices[static_cast<size_t>(copy.from)],
                   &to = plan.devices[static_cast<size_t>(copy.to)];
      const double bytes = live_bytes(copy.value.type(), live);
      text += fmt::format(kRow, "(hand-over)", device, fmt::format("copy from {}", from.info().name),
                          size_text(static_cast<size_t>(bytes)), time_text(passes::transfer_us(bytes, from, to)), "-",
                          "its readers are here");
    }
    for (const size_t s : segment.steps) {
      const Step& step = plan.steps[s];
      const Node& node = step.match.node();
      Cost cost;
      for (const NodeId id : step.match.nodes) {
        const Node& n = graph.node(id);
        cost += n.op->cost(n.attrs.get(), n.in.map([](const Value& v) { return v.type(); }), n.out, live);
      }
      const double predicted_us = predict_us(cost, plan.devices[static_cast<size_t>(step.device)].info(), *step.kernel);
      if (measured_us[s] > 0) total_us += measured_us[s];
      std::string why = text_of(plan.reasons[static_cast<size_t>(step.match.nodes.front())], plan);
      if (segment.once) why += "; runs once";
      if (node.lowered_from != nullptr) why += fmt::format("; {} lowered", node.lowered_from->name);
      const std::string_view scope = graph.scope_name(node);
      text += fmt::format(kRow, fmt::format("{}{}{}", scope, scope.empty() ? "" : ".", node.op->name), device,
                          step.kernel->name, size_text(static_cast<size_t>(cost.bytes())), time_text(predicted_us),
                          time_text(measured_us[s]), why);
    }
  }
  text +=
      fmt::format("a step of {} token{} on {} cached: {:.1f} us predicted, its nodes measured one by one {:.1f} us\n",
                  live.tokens, live.tokens == 1 ? "" : "s", live.kv_length, predict_us(plan, live), total_us);
  return text + lowered_text(plan);
}

}  // namespace weft
