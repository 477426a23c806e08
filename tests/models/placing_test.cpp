// Where a session runs its model on a machine with a GPU and a host, and what it says of that.
#include <gtest/gtest.h>

#include <algorithm>

#include "backends/null/null.h"
#include "models/session/session.h"
#include "tests/convert/temp_folder.h"
#include "tests/models/rig.h"
#include "tests/support/null_devices.h"
#include "tests/support/test_backend.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

constexpr int64_t kLayers = 6;
constexpr size_t kRoomy = size_t{1} << 28;

DeviceInfo gpu_info(size_t memory, double gbps = 1000) {
  DeviceInfo info = test_device("gpu:0", memory);
  info.bandwidth_gbps = gbps;
  info.gflops = 5 * gbps;
  info.launch_us = 0.01;
  return info;
}

/// A host, and before it a GPU if `gpu` is given.
struct Machine {
  explicit Machine(std::optional<DeviceInfo> gpu)
      : runtime(Env{}, devices(std::move(gpu))), model(tiny_model({.n_layer = kLayers})) {}

  static std::vector<std::unique_ptr<Backend>> devices(std::optional<DeviceInfo> gpu) {
    std::vector<std::unique_ptr<Backend>> list;
    if (gpu) list.push_back(std::make_unique<TestBackend>(std::vector{*gpu}, std::vector<Kernel>{}, "gpu"));
    DeviceInfo host = test_device("host", kRoomy);
    host.host_memory = true;
    host.link_gbps = host.link_latency_us = 0;
    list.push_back(std::make_unique<TestBackend>(std::vector{host}, std::vector<Kernel>{}, "host"));
    return list;
  }

  std::unique_ptr<Session> session(std::optional<int64_t> gpu_layers, std::string backend = "auto",
                                   std::vector<PlaceRule> place = {}) {
    SessionOptions options = Rig::exact(std::move(backend));
    options.gpu_layers = gpu_layers;
    options.place = std::move(place);
    return std::make_unique<Session>(model, runtime, std::move(options));
  }

  Runtime runtime;
  Model model;
};

/// The layers that have a node on the first device.
std::set<std::string> layers_on_gpu(const Plan& plan) {
  std::set<std::string> layers;
  for (const Step& step : plan.steps) {
    const std::string scope(plan.graph->scope_name(step.match.node()));
    if (step.device == 0 && scope.starts_with("blk.")) layers.insert(scope.substr(0, 5));
  }
  return layers;
}

TEST(GpuLayers, AreTheFirstOnes) {
  Machine machine(gpu_info(kRoomy));
  EXPECT_EQ(layers_on_gpu(machine.session(2)->decode_plan()), (std::set<std::string>{"blk.0", "blk.1"}));
  EXPECT_EQ(machine.session(2)->gpu_layers(), 2);
  EXPECT_TRUE(layers_on_gpu(machine.session(0)->decode_plan()).empty());
  EXPECT_EQ(layers_on_gpu(machine.session(100)->decode_plan()).size(), size_t{kLayers});
  Machine slow(gpu_info(kRoomy, 0.01));
  EXPECT_TRUE(layers_on_gpu(slow.session({})->decode_plan()).empty());
  EXPECT_EQ(layers_on_gpu(slow.session(3)->decode_plan()).size(), 3u) << "asked for, whatever they cost";
}

TEST(GpuLayers, AreAsManyAsFit) {
  Machine roomy(gpu_info(kRoomy));
  const auto whole = roomy.session(kLayers);
  const Plan::DeviceBytes& decode = whole->decode_plan().bytes[0];
  const size_t all = dynamic_cast<TestBackend&>(*whole->devices()[0].backend).used[0];  // with the largest arena
  const size_t layer = (decode.copied + decode.state) / kLayers;
  int64_t before = kLayers;
  for (const size_t layers_too_many : {1, 2, 4}) {
    const size_t memory = all - layers_too_many * layer;
    Machine machine(gpu_info(memory));
    const auto session = machine.session(kLayers);
    const int64_t fit = session->gpu_layers().value();
    EXPECT_LT(fit, before);
    EXPECT_GT(fit, 0);
    before = fit;
    EXPECT_EQ(layers_on_gpu(session->decode_plan()).size(), static_cast<size_t>(fit));
    EXPECT_LE(dynamic_cast<TestBackend&>(*session->devices()[0].backend).used[0], memory);
  }
  EXPECT_EQ(Machine(gpu_info(1000)).session(kLayers)->gpu_layers(), 0);
}

TEST(GpuLayers, WhatCannotBeIsAnErrorThatNamesTheOption) {
  Machine machine(gpu_info(kRoomy));
  expect_message(error_of([&] { machine.session(2, "gpu"); }),
                 "--gpu-layers 2: --backend gpu leaves the other 4 layers of 6 no device");
  expect_message(error_of([&] { machine.session(2, "host"); }), "--gpu-layers 2: --backend host has no GPU");
  EXPECT_NO_THROW(machine.session(0, "host"));
  EXPECT_NO_THROW(machine.session(kLayers, "gpu"));
}

TEST(Placing, SaysWhyAllIsOnTheHost) {
  const auto why = [](std::optional<DeviceInfo> gpu) { return Machine(std::move(gpu)).session({})->why_on_host(); };
  EXPECT_EQ(why(gpu_info(kRoomy)), "");
  EXPECT_EQ(why({}), "") << "there is no GPU";
  expect_message(why(gpu_info(100)), "gpu:0 has 100 B free, the model needs ");
  expect_message(why(gpu_info(kRoomy, 0.01)), " us there by prediction, ");
  EXPECT_EQ(Machine(gpu_info(100)).session(0)->why_on_host(), "") << "as was asked for";
}

TEST(Placing, NamesRulesThatMatchNothing) {
  Machine machine(gpu_info(kRoomy));
  const auto idle = machine.session(2, "auto", {{"blk.1.*", "host"}, {"blk.6.*", "host"}})->idle_rules();
  ASSERT_EQ(idle.size(), 1u);
  EXPECT_EQ(idle[0].text(), "--place 'blk.6.*=host'");
}

TEST(Placing, ExplainsWithTimesAndLeavesNoTrace) {
  Machine machine(gpu_info(kRoomy));
  const auto plain = machine.session(3), explained = machine.session(3);
  const std::string text = explained->explain();
  for (const char* part : {"blk.0.", "blk.5.", "gpu:0", "host", "(hand-over)", "--gpu-layers 3", " us on host",
                           "lowered", "a step of 1 token on 150 cached"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in:\n" << text;
  }
  size_t rows = 0, measured = 0;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    const std::string line = text.substr(at, text.find('\n', at) - at);
    if (!line.starts_with("blk.") || line.find("runs once") != std::string::npos) continue;
    ++rows;
    measured += line.find(" -  ") == std::string::npos ? 1 : 0;
  }
  EXPECT_GT(rows, size_t{kLayers});
  EXPECT_EQ(measured, rows);
  const std::vector<int32_t> ids = random_ids(70, 61, 3);
  for (Session* session : {plain.get(), explained.get()}) ASSERT_EQ(session->open_sequence(), 0);
  const Feed feed{0, ids};
  const auto expected = plain->step({&feed, 1}), got = explained->step({&feed, 1});
  EXPECT_EQ(difference(got, expected), 0);
}

}  // namespace
}  // namespace weft
