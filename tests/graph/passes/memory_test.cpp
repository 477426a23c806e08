// memory: what lives together does not overlap. If it did, one value would silently become another.
#include <random>

#include "ops/movement.h"
#include "tests/support/gpt_graph.h"
#include "tests/support/null_devices.h"
#include "tests/support/plan_check.h"

namespace weft::testing {
namespace {

using passes::assign_offsets;
using passes::Lifetime;

TEST(AssignOffsets, RandomLifetimesNeverOverlap) {
  std::mt19937 random(3);
  const auto up_to = [&](int n) { return std::uniform_int_distribution<int>(0, n)(random); };
  for (int trial = 0; trial < 300; ++trial) {
    const size_t alignment = size_t{1} << up_to(8), reserved = static_cast<size_t>(up_to(100));
    const int n_steps = 1 + up_to(30);
    std::vector<Lifetime> items(static_cast<size_t>(up_to(60)));
    for (Lifetime& item : items) {
      item.bytes = static_cast<size_t>(up_to(3) == 0 ? 0 : up_to(1000));
      item.first = up_to(n_steps);
      item.last = item.first + up_to(n_steps - std::min(item.first, n_steps));
    }
    const size_t needed = assign_offsets(items, alignment, reserved);
    size_t end = reserved, live_most = 0;
    for (const Lifetime& a : items) {
      EXPECT_EQ(a.offset % alignment, 0u);
      EXPECT_GE(a.offset, reserved);
      end = std::max(end, a.offset + a.bytes);
      for (const Lifetime& b : items) {
        if (&a == &b || a.last < b.first || b.last < a.first) continue;
        EXPECT_TRUE(a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset)
            << "trial " << trial << ": [" << a.offset << ", +" << a.bytes << ") and [" << b.offset << ", +" << b.bytes
            << ") both live at step " << std::max(a.first, b.first);
      }
    }
    for (int step = 0; step <= 2 * n_steps; ++step) {
      size_t live = 0;
      for (const Lifetime& item : items) live += item.first <= step && step <= item.last ? item.bytes : 0;
      live_most = std::max(live_most, live);
    }
    EXPECT_EQ(needed, end) << "the total is the largest end";
    EXPECT_GE(needed, live_most);
  }
}

TEST(AssignOffsets, BytesAreReusedAfterTheirLastStep) {
  std::vector<Lifetime> chain = {{64, 0, 1}, {64, 1, 2}, {64, 2, 3}, {64, 3, 4}};
  EXPECT_EQ(assign_offsets(chain, 64, 8), 64u + 2 * 64);
  EXPECT_EQ(assign_offsets(std::span<Lifetime>{}, 64, 8), 8u);
}

/// A random graph of unary and binary ops, views and constants over a few inputs.
void random_graph(Graph& graph, std::mt19937& random) {
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  std::vector<Value> values;
  for (int i = 0; i < 3; ++i) values.push_back(graph.input(fmt::format("in{}", i), f32_type({4, 6})));
  values.push_back(constant(graph, std::vector<float>(24, 1.5f), {4, 6}));
  const int n = 10 + static_cast<int>(below(40));
  for (int i = 0; i < n; ++i) {
    const Value a = values[below(values.size())], b = values[below(values.size())];
    switch (below(5)) {
      case 0:
        values.push_back(neg(a));
        break;
      case 1:  // a view of a view, back in shape
        values.push_back(reshape(reshape(a, {24}), {4, 6}));
        break;
      default:
        values.push_back(add(a, b));
    }
  }
  for (size_t i = 0; i < 3; ++i) graph.output(fmt::format("out{}", i), values[values.size() - 1 - i]);
}

TEST(Memory, RandomGraphsKeepTheirBytes) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 100; ++trial) {
    SCOPED_TRACE(trial);
    Graph graph;
    random_graph(graph, random);
    const int n = 1 + trial % 3;
    std::vector<DeviceInfo> infos;
    for (int d = 0; d < n; ++d) infos.push_back(null_device(fmt::format("null:{}", d), 1 << 20));
    const auto backend = null_backend(infos);
    const auto devices = devices_of(*backend);
    std::vector<int> node_device(static_cast<size_t>(graph.size()));
    for (int& d : node_device) d = std::uniform_int_distribution<int>(0, n - 1)(random);
    Plan plan = passes::select(graph, devices, {node_device}, {});
    passes::fold(plan);
    passes::schedule(plan);
    passes::memory(plan);
    expect_order(plan);
    expect_bytes_hold(plan);
    for (int d = 0; d < n; ++d) EXPECT_EQ(bytes_on(plan, d), plan.bytes[static_cast<size_t>(d)].total());
  }
}

TEST(Memory, AModelKeepsItsBytesAndReusesThem) {
  const GptGraph gpt({.layers = 4});
  const auto backend = null_backend({null_device("null", 1 << 30)});
  CompileOptions options;
  for (const bool fallback : {false, true}) {
    options.fallback = fallback;
    const Plan plan = compile(gpt.graph, devices_of(*backend), options);
    expect_bytes_hold(plan);
    size_t sum = 0;
    for (const ValueSlot& slot : plan.slots[0]) sum += slot.region == ValueSlot::Region::arena ? slot.bytes : 0;
    EXPECT_LT(plan.bytes[0].arena, sum / 2) << "nothing was reused";
  }
}

TEST(Memory, AnAliasHasTheBytesOfItsRoot) {
  Graph graph;
  const Value x = exp(graph.input("x", f32_type({2, 3}))), view = reshape(x, {6});
  const Value later = neg(graph.input("y", f32_type({6})));
  graph.output("z", add(neg(later), view));  // the view is read after `later` was made
  const auto backend = null_backend({null_device("null", 1 << 20)});
  const Plan plan = compile(graph, devices_of(*backend));
  expect_bytes_hold(plan);
  for (const Step& step : plan.steps) {
    if (step.match.node().op->name != "reshape") continue;
    EXPECT_EQ(plan.slots[0][plan.graph->index({plan.graph.get(), step.match.nodes[0], 0})].region,
              ValueSlot::Region::none)
        << "a view has no bytes of its own";
  }
}

}  // namespace
}  // namespace weft::testing
