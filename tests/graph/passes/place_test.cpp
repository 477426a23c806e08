// place: over random sets of devices, never over a device's memory and never slower, in prediction, than one device
// that fits. Both are worked out again here from the plan's steps and slots.
#include "graph/size_text.h"
#include "graph/weight_store.h"
#include "tests/support/gpt_graph.h"
#include "tests/support/null_devices.h"
#include "tests/support/op_fixture.h"
#include "tests/support/plan_check.h"

namespace weft::testing {
namespace {

/// The plan, or nothing if none fits; any other Error is a failure.
std::optional<Plan> try_compile(const Graph& graph, std::span<const Device> devices, const CompileOptions& options) {
  try {
    return compile(graph, devices, options);
  } catch (const Error& error) {
    EXPECT_THAT_CONTAINS(error.what(), "does not fit in memory");
    return std::nullopt;
  }
}

size_t total_bytes(const Graph& graph) {
  const auto backend = null_backend({null_device("null", SIZE_MAX)});
  return bytes_on(compile(graph, devices_of(*backend)), 0);
}

struct Sweep {
  int placed = 0, split = 0, refused = 0;
};

/// `n` random sets of devices: the two promises, or an Error where no device alone would have done.
Sweep sweep(const Graph& graph, int n, unsigned seed, const std::vector<std::string>& without) {
  std::mt19937 random(seed);
  const size_t needed = total_bytes(graph);
  Sweep result;
  for (int i = 0; i < n; ++i) {
    SCOPED_TRACE(fmt::format("seed {}, set {}", seed, i));
    const auto infos = random_devices(random, needed);
    const auto backend = null_backend(infos, without);
    const auto devices = devices_of(*backend);
    CompileOptions options;
    options.workload = {.tokens = i % 2 == 0 ? 1 : 4, .logits = 1, .sequences = 1, .kv_length = 8};
    const auto plan = try_compile(graph, devices, options);
    if (plan) {
      ++result.placed;
      std::set<int> used;
      for (const Step& step : plan->steps) used.insert(step.device);
      result.split += used.size() > 1 ? 1 : 0;
      for (size_t d = 0; d < devices.size(); ++d) {
        EXPECT_LE(bytes_on(*plan, static_cast<int>(d)), infos[d].memory_bytes)
            << "over the memory of " << infos[d].name;
      }
      EXPECT_NEAR(plan->predicted_us, time_of(*plan), 1e-9 * plan->predicted_us) << "the prediction itself";
      expect_order(*plan);
      expect_bytes_hold(*plan);
    } else {
      ++result.refused;
    }
    for (const Device& device : devices) {
      const auto alone = try_compile(graph, std::span(&device, 1), options);
      if (!alone || bytes_on(*alone, 0) > device.info().memory_bytes) continue;
      EXPECT_TRUE(plan) << device.info().name << " alone would have done";
      if (!plan) continue;
      EXPECT_LE(time_of(*plan), time_of(*alone) * (1 + 1e-9)) << device.info().name << " alone is faster";
    }
  }
  return result;
}

TEST(Place, NeverOverMemoryNeverSlowerThanOneDevice) {
  const GptGraph gpt({.layers = 3, .width = 32, .heads = 4, .vocab = 64});
  const Sweep result = sweep(gpt.graph, 400, 1, {});
  EXPECT_GT(result.split, 40) << "the sets should make it split often";
  EXPECT_GT(result.refused, 40) << "and have nothing that fits often";
}

TEST(Place, HoldsWhereOpsAreLowered) {
  const GptGraph gpt({.layers = 2, .width = 16, .heads = 2, .vocab = 32});
  sweep(gpt.graph, 30, 2, {"qkv_gemm", "layer_norm", "mlp_gemm"});
}

TEST(Place, SharesAGraphNoDeviceHolds) {
  const GptGraph gpt({.layers = 4, .width = 32, .heads = 4, .vocab = 64});
  const size_t needed = total_bytes(gpt.graph);
  const auto backend = null_backend({null_device("a", needed * 7 / 10), null_device("b", needed * 7 / 10, 100, 500)});
  const Plan plan = compile(gpt.graph, devices_of(*backend));
  EXPECT_LE(bytes_on(plan, 0), needed * 7 / 10);
  EXPECT_LE(bytes_on(plan, 1), needed * 7 / 10);
  EXPECT_GT(bytes_on(plan, 1), bytes_on(plan, 0)) << "the faster device should hold what it can";
}

TEST(Place, NothingFitsIsAnErrorNamingWhatThereIs) {
  const GptGraph gpt;
  const auto backend = null_backend({null_device("tiny", 1000), null_device("small", 2000)});
  EXPECT_ERROR(compile(gpt.graph, devices_of(*backend)), "free are 1000 B of tiny and 1.95 KiB of small");
  EXPECT_ERROR(compile(gpt.graph, std::vector<Device>{}), "no device");
}

TEST(Place, WeightsFitButTheArenaDoesNot) {
  const GptGraph gpt;
  const size_t needed = total_bytes(gpt.graph);
  const auto backend = null_backend({null_device("null", needed - 1)});
  EXPECT_ERROR(compile(gpt.graph, devices_of(*backend)), fmt::format("free are {} of null", size_text(needed - 1)));
  const auto enough = null_backend({null_device("null", needed)});
  EXPECT_NO_THROW(compile(gpt.graph, devices_of(*enough)));
}

TEST(Place, ALimitOverridesWhatTheDeviceOffers) {
  const GptGraph gpt;
  const auto backend = null_backend({null_device("fast", 1 << 30, 1000, 5000), null_device("slow", 1 << 30)});
  CompileOptions options;
  EXPECT_FALSE(steps_of(compile(gpt.graph, devices_of(*backend), options), "qkv_gemm")[0]->device);
  options.memory_limit = {size_t{0}, std::nullopt};
  for (const Step& step : compile(gpt.graph, devices_of(*backend), options).steps) EXPECT_EQ(step.device, 1);
}

class TwoDevices : public ::testing::Test {
 protected:
  GptGraph gpt{{.layers = 3}};
  std::unique_ptr<Backend> backend =
      null_backend({null_device("fast", 1 << 30, 1000, 5000), null_device("slow", 1 << 30)});
  std::vector<Device> devices = devices_of(*backend);
  CompileOptions options;

  std::set<int> devices_of_op(const Plan& plan, std::string_view op) {
    std::set<int> found;
    for (const Step* step : steps_of(plan, op)) found.insert(step->device);
    return found;
  }
};

TEST_F(TwoDevices, ThePlaceOptionOverrides) {
  options.place = {{"blk.1.*", "slow"}};
  const Plan plan = compile(gpt.graph, devices, options);
  for (const Step& step : plan.steps) {
    EXPECT_EQ(step.device, plan.graph->scope_name(step.match.node()) == "blk.1" ? 1 : 0);
  }
}

TEST_F(TwoDevices, ThePlaceOptionMayAlternate) {
  // Attention of every layer elsewhere: no contiguous run does that.
  options.place = {{"*.softmax_context", "slow"}, {"*", "fast"}};
  const Plan plan = compile(gpt.graph, devices, options);
  EXPECT_EQ(devices_of_op(plan, "softmax_context"), std::set<int>{1});
  EXPECT_EQ(devices_of_op(plan, "mlp_gemm"), std::set<int>{0});
  expect_order(plan);
  expect_bytes_hold(plan);
}

TEST_F(TwoDevices, TheFirstPatternWinsAndWrongDevicesAreErrors) {
  options.place = {{"*.mlp_gemm", "slow"}, {"*", "fast"}, {"*", "slow"}};
  const Plan plan = compile(gpt.graph, devices, options);
  EXPECT_EQ(devices_of_op(plan, "mlp_gemm"), std::set<int>{1});
  EXPECT_EQ(devices_of_op(plan, "qkv_gemm"), std::set<int>{0});
  options.place = {{"*", "gpu"}};
  EXPECT_ERROR(compile(gpt.graph, devices, options), "--place '*=gpu'");
}

TEST_F(TwoDevices, StateStaysWhereItIs) {
  // Layers 0 and 2 have a cache on the slow device already.
  Memory memory;
  for (const char* name : {"k_cache.0", "v_cache.0", "k_cache.2", "v_cache.2"}) {
    memory.states.get(name, f32_type({3, 2, 4, 8}), devices[1]);
  }
  options.memory = &memory;
  const Plan plan = compile(gpt.graph, devices, options);
  for (const Step* step : steps_of(plan, "softmax_context")) {
    if (plan.graph->scope_name(step->match.node()) == "blk.1") continue;
    EXPECT_EQ(step->device, 1);
  }
}

TEST_F(TwoDevices, EveryNodeHasItsReason) {
  using Kind = Reason::Kind;
  const auto reason_of = [&](std::string_view op, size_t layer) {
    const Plan plan = compile(gpt.graph, devices, options);
    return plan.reasons[static_cast<size_t>(steps_of(plan, op)[layer]->match.nodes[0])];
  };
  const Reason fastest = reason_of("mlp_gemm", 1);
  EXPECT_EQ(fastest.kind, Kind::fastest);
  EXPECT_EQ(fastest.other, 1);
  EXPECT_GT(fastest.here_us, 0);
  EXPECT_GT(fastest.other_us, fastest.here_us);
  options.place = {{"blk.1.mlp_gemm", "slow"}};
  EXPECT_EQ(reason_of("mlp_gemm", 1).kind, Kind::rule);
  EXPECT_EQ(reason_of("mlp_gemm", 1).rule, "--place 'blk.1.mlp_gemm=slow'");
  EXPECT_EQ(reason_of("mlp_gemm", 0).kind, Kind::fastest);
  options.place.clear();
  Memory memory;
  memory.states.get("k_cache.1", f32_type({3, 2, 4, 8}), devices[1]);
  options.memory = &memory;
  EXPECT_EQ(reason_of("softmax_context", 1).kind, Kind::state);
  options.memory = nullptr;
  options.memory_limit = {compile(gpt.graph, devices, options).bytes[0].total() / 2, std::nullopt};
  EXPECT_EQ(reason_of("mlp_gemm", 2).kind, Kind::memory);
  devices.pop_back();
  options.memory_limit.clear();
  EXPECT_EQ(reason_of("mlp_gemm", 0).kind, Kind::only);
}

TEST_F(TwoDevices, StateOfADeviceThatIsNotOfferedIsAnError) {
  Memory memory;
  memory.states.get("k_cache.0", f32_type({3, 2, 4, 8}), devices[1]);
  options.memory = &memory;
  EXPECT_ERROR(compile(gpt.graph, std::span(devices).first(1), options), "k_cache.0");
}

TEST_F(TwoDevices, AStateIsNeverSplit) {
  // Two updates of one cache: the second must follow the first though its op is pulled to the other device.
  Graph graph;
  const Value cache = graph.state("cache", f32_type({1, 1, 4, 2}));
  const Value rows = graph.input("rows", f32_type({1, 1, 2})), slots = graph.input("slots", i32_type({1}));
  Value updated = append_pages(cache, rows, slots);
  const Graph::Scope scope(graph, "far");
  updated = append_pages(updated, rows, slots);
  graph.output("y", gather_pages(updated, graph.input("t", i32_type({1, 1})), graph.input("l", i32_type({1}))));
  options.place = {{"far.append_pages", "slow"}};
  const Plan plan = compile(graph, devices, options);
  EXPECT_EQ(devices_of_op(plan, "append_pages"), std::set<int>{1});
  EXPECT_EQ(devices_of_op(plan, "gather_pages"), std::set<int>{1});
  options.place = {{".append_pages", "fast"}, {"far.append_pages", "slow"}};
  EXPECT_ERROR(compile(graph, devices, options), "cannot be placed");
}

TEST_F(TwoDevices, AStateUpdatedTwiceIsCountedOnce) {
  Graph graph;
  const Value k = graph.state("k", f32_type({4, 1, 16, 4})), v = graph.state("v", f32_type({4, 1, 16, 4}));
  SoftmaxContext attend;
  attend.d_head = 4;
  const Value qkv = graph.input("qkv", f32_type({2, 12})), n = graph.input("n", i32_type({2}));
  const Value starts = graph.input("starts", i32_type({2})), lengths = graph.input("lengths", i32_type({1}));
  const Value table = graph.input("table", i32_type({1, 4}));
  const auto once = graph.add(attend, {qkv, k, v, n, n, n, starts, lengths, table, {}, {}, {}, {}});
  const auto twice = graph.add(attend, {qkv, once[1], once[2], n, n, n, starts, lengths, table, {}, {}, {}, {}});
  const auto thrice = graph.add(attend, {qkv, twice[1], twice[2], n, n, n, starts, lengths, table, {}, {}, {}, {}});
  graph.output("y", thrice[0]);
  options.memory_limit = {k.type().bytes() * 3 / 2, std::nullopt};  // both caches do not fit on the fast device
  for (const Step& step : compile(graph, devices, options).steps) EXPECT_EQ(step.device, 1);
}

TEST(PlaceKernels, ADeviceWithoutAKernelIsAvoided) {
  // The fast backend has no tanh, and tanh is a primitive: those nodes go to the slow one, every one of them.
  const auto fast = null_backend({null_device("fast", 1 << 30, 1000, 5000)}, {"tanh"});
  const auto slow = null_backend({null_device("slow", 1 << 30, 1, 1)});
  const std::vector<Device> devices = {{fast.get(), 0}, {slow.get(), 0}};
  Graph graph;
  Value x = graph.input("x", f32_type({64, 64}));
  for (int i = 0; i < 3; ++i) x = exp(tanh(x));
  graph.output("x", x);
  const Plan plan = compile(graph, devices);
  for (const Step* step : steps_of(plan, "tanh")) {
    EXPECT_EQ(step->device, 1);
    EXPECT_EQ(plan.reasons[static_cast<size_t>(step->match.nodes[0])].kind, Reason::Kind::unable);
  }
  expect_order(plan);
  EXPECT_ERROR(compile(graph, std::span(devices).first(1)), "tanh: ");
}

TEST(PlaceKernels, AFusedOpIsLoweredWhereThatIsFaster) {
  const auto fast = null_backend({null_device("fast", 1 << 30, 1000, 5000)}, {"layer_norm"});
  const auto slow = null_backend({null_device("slow", 1 << 30, 0.1, 0.1)});
  const std::vector<Device> devices = {{fast.get(), 0}, {slow.get(), 0}};
  Graph graph;
  const Value x = graph.input("x", f32_type({64, 64}));
  graph.output("y", layer_norm(x, graph.input("gamma", f32_type({64})), {}, 1e-5f));
  const Plan plan = compile(graph, devices);
  EXPECT_TRUE(steps_of(plan, "layer_norm").empty());
  for (const Step& step : plan.steps) EXPECT_EQ(step.device, 0);
  ASSERT_FALSE(plan.refusals.empty());
  EXPECT_EQ(plan.refusals[0].device, "fast");
}

TEST(Transfer, BothEndsOfALinkCount) {
  DeviceInfo host = null_device("host", 0), card = null_device("card", 0);
  card.link_gbps = 10;
  card.link_latency_us = 3;
  const auto backend = null_backend({host, card, card});
  const Device a{backend.get(), 0}, b{backend.get(), 1}, c{backend.get(), 2};
  EXPECT_DOUBLE_EQ(passes::transfer_us(1e6, a, b), 100 + 3);
  EXPECT_DOUBLE_EQ(passes::transfer_us(1e6, b, c), 200 + 6);
  EXPECT_DOUBLE_EQ(passes::transfer_us(1e6, a, a), 100) << "through memory";
}

}  // namespace
}  // namespace weft::testing
