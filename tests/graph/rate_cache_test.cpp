// RateCache: a file that anybody may have written gives rates or nothing, never an error; Runtime asks it first.
#include "graph/rate_cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "graph/runtime.h"
#include "tests/support/null_devices.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_backend.h"

namespace weft::testing {
namespace {

DeviceInfo some_rates(double gbps) { return null_device("any", 0, gbps, 2 * gbps); }

TEST(RateCache, KeepsAcrossProcesses) {
  const TempFolder folder;
  const std::string path = folder.file("made/on/the/way");
  RateCache first(path), second(path);
  EXPECT_EQ(first.find("a"), nullptr);
  first.keep("a", some_rates(7));
  second.keep("b: with, spaces", some_rates(1.0 / 3));
  const RateCache third(path);
  ASSERT_NE(third.find("a"), nullptr) << "the second process wrote over it";
  ASSERT_NE(third.find("b: with, spaces"), nullptr);
  EXPECT_EQ(third.find("a")->bandwidth_gbps, 7);
  EXPECT_NEAR(third.find("b: with, spaces")->gflops, 2.0 / 3, 1e-8);
  DeviceInfo info = null_device("mine", 5, 1, 1);
  copy_rates(info, *third.find("a"));
  EXPECT_EQ(info.bandwidth_gbps, 7);
  EXPECT_EQ(info.name, "mine");
  EXPECT_EQ(info.memory_bytes, 5u);
}

TEST(RateCache, HostileAndOldFilesAreAsNone) {
  const TempFolder folder;
  RateCache(folder.path()).keep("a", some_rates(7));
  const std::string good = read_file(folder.file("rates"));
  const size_t line = good.find('\n') + 1, space = good.find(' ', line);
  const auto with = [&](std::string text) {
    folder.write("rates", text);
    return RateCache(folder.path()).find("a") != nullptr;
  };
  EXPECT_TRUE(with(good));
  EXPECT_TRUE(with(good + "nonsense\n1 2 3\n" + std::string(100, '\n')));
  EXPECT_FALSE(with(""));
  EXPECT_FALSE(with("another header\n" + good.substr(line)));
  EXPECT_FALSE(with(good.substr(0, good.size() - 1))) << "cut off";
  for (const char* time : {"0", "-1", "99999999999", "99999999999999999999", "x"}) {
    EXPECT_FALSE(with(good.substr(0, line) + time + good.substr(space))) << time;
  }
  for (const char* rate : {"nan", "inf", "-1", "0", "1e300", "7x"}) {
    EXPECT_FALSE(with(good.substr(0, space + 1) + rate + good.substr(good.find(' ', space + 1)))) << rate;
  }
  EXPECT_FALSE(with(std::string(1 << 20, 'x')));
}

TEST(RateCache, WhatCannotBeReadOrWrittenIsNotKept) {
  const TempFolder folder;
  RateCache nowhere(""), below_a_file(folder.write("file", "") + "/cache");
  for (RateCache* cache : {&nowhere, &below_a_file}) {
    cache->keep("a", some_rates(7));
    EXPECT_NE(cache->find("a"), nullptr) << "this process knows it";
  }
  ASSERT_EQ(::mkfifo(folder.file("rates").c_str(), 0600), 0);
  EXPECT_EQ(RateCache(folder.path()).find("a"), nullptr) << "and does not wait for a writer";
  EXPECT_EQ(folder.count(), 2u) << "nothing half-written stays";
}

/// A runtime on a machine whose device reads at `gbps`, found by measuring.
std::unique_ptr<Runtime> machine(const std::string& folder, double gbps, size_t memory = size_t{8} << 30) {
  Env env;
  env.cache_folder = folder;
  auto backend =
      make_null_backend({.devices = {null_device("null", memory)}, .without = {}, .measured = {some_rates(gbps)}});
  return std::make_unique<Runtime>(env, backends(std::move(backend)));
}

TEST(Runtime, MeasuresOnceAMachine) {
  const TempFolder folder;
  const auto calibrated = [](Runtime& runtime, size_t working_set, bool anew = false) {
    runtime.calibrate(runtime.devices(), working_set, anew);
    return runtime.devices()[0].info().bandwidth_gbps;
  };
  EXPECT_EQ(calibrated(*machine(folder.path(), 5), 1000 << 20), 5);
  EXPECT_EQ(calibrated(*machine(folder.path(), 6), 1001 << 20), 5) << "kept";
  EXPECT_EQ(calibrated(*machine(folder.path(), 7), 1 << 20), 7) << "what fits in caches is read faster";
  EXPECT_EQ(calibrated(*machine(folder.path(), 8, 1 << 20), 1000 << 20), 8) << "with less memory to probe";
  EXPECT_EQ(calibrated(*machine(folder.path(), 9), 1000 << 20, /*anew=*/true), 9);
  EXPECT_EQ(calibrated(*machine(folder.path(), 10), 1000 << 20), 9) << "and that is kept";
}

}  // namespace
}  // namespace weft::testing
