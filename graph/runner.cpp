#include "graph/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "graph/step_check.h"

namespace weft {
namespace {

void write_dumps(const Plan& plan, const Env& env) {
  if (env.debug >= 3) fmt::print(stderr, "{}", dump_plan(plan));
  if (env.dump_what.empty()) return;
  const std::string text = env.dump_what == "graph"  ? dump_text(*plan.graph)
                           : env.dump_what == "dot"  ? dump_dot(*plan.graph)
                           : env.dump_what == "plan" ? dump_plan(plan)
                                                     : dump_memory(plan);
  if (env.dump_file.empty()) {
    fmt::print(stderr, "{}", text);
    return;
  }
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(env.dump_file.c_str(), "a"), std::fclose);
  require(file != nullptr, "WEFT_DUMP: cannot write {}", env.dump_file);
  fmt::print(file.get(), "{}", text);
}

constexpr Workload kAllLive{.tokens = INT64_MAX, .logits = INT64_MAX};

size_t live_size(const TensorType& type, const Workload& live) {
  if (type.shape.rank() == 0 || type.shape[0] == 0) return type.bytes();
  return type.bytes() / static_cast<size_t>(type.shape[0]) * static_cast<size_t>(live_rows(type, live));
}

/// Room for a value that is handed over, in whole lines of a cache.
size_t staged_size(const Copy& copy) { return (copy.value.type().bytes() + 63) / 64 * 64; }

/// Memory of the host that a device with memory of its own copies to fastest.
std::pmr::memory_resource& staging_memory(const Plan& plan) {
  const auto it = std::ranges::find_if(plan.devices, [](const Device& device) { return !device.info().host_memory; });
  return (it != plan.devices.end() ? *it : plan.devices.front()).backend->host_memory();
}

}  // namespace

Runner::Runner(Plan plan, Runtime& runtime, Memory& memory, bool observable, StepObserver* observer)
    : plan_(std::move(plan)),
      runtime_(runtime),
      memory_(memory),
      observer_(observer),
      staging_(&staging_memory(plan_)) {
  const Env& env = runtime.env();
  observed_ = observable && (env.check_ref || env.check_nan || !env.trace_file.empty() || env.debug >= 2);
  observed_ |= observer != nullptr;
  if (observable) write_dumps(plan_, env);
  for (size_t d = 0; d < plan_.devices.size(); ++d) {
    const Device& device = plan_.devices[d];
    const size_t bytes = plan_.bytes[d].constant;
    constants_.push_back(bytes > 0 ? device.backend->allocate(device.index, bytes) : Buffer());
    heads_.emplace_back(plan_.bytes[d].arena > 0 ? plan_.bytes[d].head : 0);
  }
  for (NodeId id = 0; id < plan_.graph->size(); ++id) {
    const InputOp* op = plan_.graph->node(id).as<InputOp>();
    if (op == nullptr) continue;
    Input& input = inputs_.emplace_back(Input{.name = op->label, .bytes = op->type.bytes(), .offset = {}});
    for (const auto& slots : plan_.slots) {
      const ValueSlot& slot = slots[plan_.graph->index({plan_.graph.get(), id, 0})];
      const bool read = slot.region == ValueSlot::Region::arena;
      input.offset.push_back(read ? std::optional(slot.offset) : std::nullopt);
    }
  }
  arenas_.resize(plan_.devices.size());
  size_t staged = 0;
  for (const SegmentPlan& segment : plan_.segments) {
    size_t bytes = 0;
    for (const Copy& copy : segment.copies) bytes += staged_size(copy);
    staged = std::max(staged, bytes);
  }
  staging_.resize(staged);
  bind();
}

std::byte* Runner::address_of(Value value, int device) const {
  const auto d = static_cast<size_t>(device);
  const ValueSlot& own = plan_.slots[d][plan_.graph->index(value)];
  Value root = value;
  const ValueSlot* slot = &own;
  while (slot->region == ValueSlot::Region::none) {  // an alias: its root has the bytes
    const Node& node = plan_.graph->node(root.node);
    const int alias = node.op->outputs[root.port].alias;
    if (alias < 0) return nullptr;
    root = node.in[static_cast<size_t>(alias)];
    slot = &plan_.slots[d][plan_.graph->index(root)];
  }
  const Device& at = plan_.devices[d];
  switch (slot->region) {
    case ValueSlot::Region::arena:
      return arenas_[d] + slot->offset;
    case ValueSlot::Region::constant:
      return constants_[d].data() + slot->offset;
    case ValueSlot::Region::state: {
      const StateOp* state = plan_.graph->node(root.node).as<StateOp>();
      return memory_.states.get(state->label, state->type, at).data;
    }
    case ValueSlot::Region::weight: {
      const WeightOp* weight = plan_.graph->node(root.node).as<WeightOp>();
      return memory_.weights.get(weight->host, at, nullptr).data;
    }
    case ValueSlot::Region::none:
      break;
  }
  return nullptr;
}

Tensor Runner::tensor_of(Value value, int device, const Layout* layout) {
  if (const WeightOp* weight = plan_.graph->node(value.node).as<WeightOp>()) {
    return memory_.weights.get(weight->host, plan_.devices[static_cast<size_t>(device)], layout);
  }
  return {value.type(), address_of(value, device), nullptr};
}

Runner::Bound Runner::bind_segment(const SegmentPlan& segment, std::span<const size_t> steps) {
  const Device& device = plan_.devices[static_cast<size_t>(segment.device)];
  std::byte* arena = arenas_[static_cast<size_t>(segment.device)];
  std::unique_ptr<Steps> recorded = device.backend->begin(device.index);
  const Node& first = plan_.steps[steps.front()].match.node();
  recorded->name =
      steps.size() == 1 ? plan_.graph->where(first) : fmt::format("step of up to {} tokens", plan_.workload.tokens);
  for (const size_t s : steps) {
    const Step& step = plan_.steps[s];
    Call call{.match = step.match,
              .in = {},
              .out = {},
              .workspace = nullptr,
              .live = reinterpret_cast<const int32_t*>(arena)};
    for (size_t n = 0; n < step.match.nodes.size(); ++n) {
      const Node& node = step.match.node(n);
      Slots<Tensor> in;
      for (size_t slot = 0; slot < node.in.size(); ++slot) {
        std::vector<Tensor> items;
        for (const Value& value : node.in.list(slot)) {
          const bool inside = n > 0 && std::ranges::find(step.match.nodes, value.node) != step.match.nodes.end();
          const Layout* layout = step.kernel->layout_for(step.match, n, slot, value.type());
          items.push_back(inside ? Tensor{value.type()} : tensor_of(value, segment.device, layout));
        }
        in.add(items);
      }
      call.in.push_back(std::move(in));
    }
    const NodeId last = step.match.nodes.back();
    for (size_t port = 0; port < step.match.uses.size(); ++port) {
      const Value value{plan_.graph.get(), last, static_cast<uint8_t>(port)};
      const bool alias = step.match.last().op->outputs[port].alias >= 0;
      call.out.push_back({value.type(), step.match.wants(port) || alias ? address_of(value, segment.device) : nullptr});
    }
    if (step.workspace_bytes > 0) call.workspace = arena + step.workspace_offset;
    step.kernel->prepare(call, *recorded);
  }
  return {&segment, {steps.begin(), steps.end()}, device.backend->finish(std::move(recorded))};
}

void Runner::bind() {
  do {  // growing one device's arena may not move another, but two plans may grow in turn
    bound_generation_ = memory_.generation;
    for (size_t d = 0; d < plan_.devices.size(); ++d) {
      const size_t bytes = plan_.bytes[d].arena;
      arenas_[d] = bytes > 0 ? memory_.arena(plan_.devices[d], bytes) : nullptr;
    }
  } while (bound_generation_ != memory_.generation);
  bound_.clear();
  whole_.clear();
  const Env& env = runtime_.env();
  for (const SegmentPlan& segment : plan_.segments) {
    if (!observed_ || segment.once) {
      bound_.push_back(bind_segment(segment, segment.steps));
      continue;
    }
    for (size_t i = 0; i < segment.steps.size(); ++i) {
      bound_.push_back(bind_segment(segment, std::span(segment.steps).subspan(i, 1)));
    }
    if (env.debug < 2 || env.check_ref || env.check_nan || observer_ != nullptr) continue;
    whole_.push_back(bind_segment(segment, segment.steps));
    const std::string text = whole_.back().work->describe();
    if (text.empty()) continue;
    fmt::print(stderr, "weft: plan of {} tokens on {}: {} steps, {}\n", plan_.workload.tokens,
               plan_.devices[static_cast<size_t>(segment.device)].info().name, segment.steps.size(), text);
  }
  write_head(plan_.workload);
  for (Bound& bound : bound_) {
    if (!bound.segment->once) continue;
    hand_over(*bound.segment, kAllLive);
    bound.work->launch();
    bound.work->wait();
  }
  std::erase_if(bound_, [](const Bound& bound) { return bound.segment->once; });
}

void Runner::hand_over(const SegmentPlan& segment, const Workload& live) {
  const auto for_each = [&](auto&& move) {
    std::byte* staged = staging_.data();
    for (const Copy& copy : segment.copies) {
      move(copy, staged, live_size(copy.value.type(), live));
      staged += staged_size(copy);
    }
  };
  for_each([&](const Copy& copy, std::byte* staged, size_t bytes) {
    const Device& from = plan_.devices[static_cast<size_t>(copy.from)];
    from.backend->start_read(from.index, staged, address_of(copy.value, copy.from), bytes);
  });
  for (size_t d = 0; d < plan_.devices.size(); ++d) {
    if (std::ranges::find(segment.copies, static_cast<int>(d), &Copy::from) == segment.copies.end()) continue;
    const Device& from = plan_.devices[d];
    from.backend->wait(from.index, from.backend->mark(from.index));
  }
  for_each([&](const Copy& copy, const std::byte* staged, size_t bytes) {
    const Device& to = plan_.devices[static_cast<size_t>(copy.to)];
    to.backend->write(to.index, address_of(copy.value, copy.to), staged, bytes);
  });
}

bool Runner::reads_input(std::string_view name) const {
  return std::ranges::find(inputs_, name, &Input::name) != inputs_.end();
}

void Runner::write(std::string_view name, const void* data, size_t bytes) {
  const auto input = std::ranges::find(inputs_, name, &Input::name);
  require(input != inputs_.end(), "the plan has no input {}", name);
  require(bytes <= input->bytes, "input {} holds {} bytes, given {}", name, input->bytes, bytes);
  for (size_t d = 0; d < heads_.size(); ++d) {
    if (input->offset[d] && bytes > 0) std::memcpy(heads_[d].data() + *input->offset[d], data, bytes);
  }
}

void Runner::count(const Workload& live) {
  const int32_t counts[2] = {static_cast<int32_t>(live.tokens), static_cast<int32_t>(live.logits)};
  static_assert(sizeof(counts) == kLiveBytes);
  for (std::vector<std::byte>& head : heads_) {
    if (!head.empty()) std::memcpy(head.data(), counts, kLiveBytes);
  }
}

/// The live counts and all inputs, in one copy to a device.
void Runner::write_head(const Workload& live) {
  count(live);
  for (size_t d = 0; d < plan_.devices.size(); ++d) {
    if (arenas_[d] == nullptr) continue;
    plan_.devices[d].backend->write(plan_.devices[d].index, arenas_[d], heads_[d].data(), heads_[d].size());
  }
}

void Runner::run(const Workload& live) {
  if (bound_generation_ != memory_.generation) bind();
  write_head(live);
  if (observed_) {
    run_observed(live);
    return;
  }
  launch(live);
}

void Runner::launch(const Workload& live) {
  for (Bound& bound : bound_) {
    hand_over(*bound.segment, live);
    bound.work->launch();
  }
}

bool Runner::can_follow() const {
  if (bound_generation_ != memory_.generation || observed_ || bound_.size() != 1) return false;
  return !plan_.devices[static_cast<size_t>(bound_.front().segment->device)].info().host_memory;
}

uint64_t Runner::follow(const Workload& live, std::string_view output, std::string_view input, void* to_host,
                        size_t bytes) {
  require(can_follow(), "the plan cannot follow its last run");
  const auto to = std::ranges::find(inputs_, input, &Input::name);
  require(to != inputs_.end() && bytes <= to->bytes, "the plan has no input {} of {} bytes", input, bytes);
  count(live);
  const auto [device, from] = output_at(output, bytes);
  const auto d = static_cast<size_t>(bound_.front().segment->device);
  device.backend->turn(device.index, {.head = arenas_[d],
                                      .host_head = heads_[d].data(),
                                      .head_bytes = heads_[d].size(),
                                      .from = from,
                                      .to = to->offset[d] ? arenas_[d] + *to->offset[d] : nullptr,
                                      .to_host = to_host,
                                      .bytes = bytes});
  const uint64_t mark = device.backend->mark(device.index);
  launch(live);
  return mark;
}

/// Before the steps alone, which then do the same once more: a run gives the same values and states however often.
double Runner::run_whole(const Workload& live) {
  double time = 0;
  for (Bound& bound : whole_) {
    hand_over(*bound.segment, live);
    time += bound.work->timed_launch();
  }
  return time;
}

void Runner::run_observed(const Workload& live) {
  const Env& env = runtime_.env();
  const double whole = run_whole(live);
  double alone = 0;
  const SegmentPlan* current = nullptr;
  for (Bound& bound : bound_) {
    if (bound.segment != current) {
      current = bound.segment;
      hand_over(*current, live);
    }
    const Step& step = plan_.steps[bound.steps.front()];
    const Device& device = plan_.devices[static_cast<size_t>(step.device)];
    std::optional<StepCheck> check;
    if (env.check_ref || env.check_nan) {
      check.emplace(plan_, step, runtime_, [&](Value v) { return address_of(v, step.device); });
    }
    StepView view{step.match, live, [&](Value v) {
                    std::vector<std::byte> bytes(v.type().bytes());
                    device.backend->read(device.index, bytes.data(), address_of(v, step.device), bytes.size());
                    return bytes;
                  }};
    if (observer_ != nullptr) observer_->before(view);
    const double start = runtime_.trace().now_us();
    const double time = bound.work->timed_launch();
    alone += view.time_us = time;
    if (check) check->after(live, env.check_ref);
    if (observer_ != nullptr) observer_->after(view);
    const Node& node = step.match.node();
    Cost cost;
    for (const NodeId id : step.match.nodes) {
      const Node& n = plan_.graph->node(id);
      cost += n.op->cost(n.attrs.get(), n.in.map([](const Value& v) { return v.type(); }), n.out, live);
    }
    runtime_.trace().record(
        {.op = std::string(node.op->name),
         .scope = std::string(plan_.graph->scope_name(node)),
         .kernel = step.kernel->name,
         .device = device.info().name,
         .lowered = node.lowered_from != nullptr,
         .start_us = start,
         .time_us = time,
         .cost = cost,
         .limit_us = predict_us(cost, device.info(), *step.kernel) - step.kernel->launches * device.info().launch_us});
  }
  if (!whole_.empty()) runtime_.trace().record_run(live.tokens, whole, alone);
}

namespace {
const Graph::Output& find_output(const Plan& plan, std::string_view name) {
  for (const auto& output : plan.graph->outputs()) {
    if (output.name == name) return output;
  }
  fail("the plan has no output {}", name);
}
}  // namespace

std::pair<const Device&, std::byte*> Runner::output_at(std::string_view output, size_t bytes) const {
  const Value value = find_output(plan_, output).value;
  require(bytes <= value.type().bytes(), "output {} holds {} bytes, asked for {}", output, value.type().bytes(), bytes);
  require(bound_generation_ == memory_.generation, "output {}: the arena has moved since the plan ran", output);
  const int device = plan_.node_device[static_cast<size_t>(value.node)];
  return {plan_.devices[static_cast<size_t>(device)], address_of(value, device)};
}

void Runner::read(std::string_view output, void* data, size_t bytes) const {
  const auto [device, from] = output_at(output, bytes);
  device.backend->read(device.index, data, from, bytes);
}

void Runner::wait(std::string_view output, uint64_t mark) const {
  const Device& device = output_at(output, 0).first;
  device.backend->wait(device.index, mark);
}

const TensorType& Runner::output_type(std::string_view output) const { return find_output(plan_, output).value.type(); }

}  // namespace weft
