#include "backends/cpu/team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "backends/cpu/machine.h"

namespace weft::cpu {
namespace {

TEST(Team, RunsEveryMemberOnceAndSeesTheirWrites) {
  for (const int size : {1, 2, 3, 8}) {
    Team team(size);
    for (int run = 0; run < 50; ++run) {
      std::vector<int> written(static_cast<size_t>(size), 0);
      int granted = 0;
      team.run([&](int thread, int n) {
        written[static_cast<size_t>(thread)] = run + 1;
        if (thread == 0) granted = n;
      });
      for (int i = 0; i < granted; ++i) EXPECT_EQ(written[static_cast<size_t>(i)], run + 1);
    }
  }
}

// Plain ints, written on one side of a barrier and read by all on the other: a barrier that lets one thread through
// early is seen in the values, and under ThreadSanitizer as a race.
TEST(Team, BarrierSeparatesWritesFromReads) {
  for (const int size : {2, 3, 5}) {
    Team team(size);
    std::vector<int> cells(static_cast<size_t>(size) * 16, 0);
    std::atomic<int> wrong{0};
    team.run([&](int thread, int n) {
      for (int round = 1; round <= 1000; ++round) {
        cells[static_cast<size_t>(thread) * 16] = round;
        team.barrier().wait(n);
        for (int i = 0; i < n; ++i) wrong += cells[static_cast<size_t>(i) * 16] != round;
        team.barrier().wait(n);
      }
    });
    EXPECT_EQ(wrong, 0) << size << " threads";
  }
}

TEST(Team, RunsFromTwoThreadsQueue) {
  Team team(2);
  int counter = 0;  // guarded by the queue alone
  const auto caller = [&] {
    for (int i = 0; i < 100; ++i) {
      team.run([&](int thread, int) {
        if (thread == 0) ++counter;
      });
    }
  };
  std::thread other(caller);
  caller();
  other.join();
  EXPECT_EQ(counter, 200);
}

TEST(Machine, ReadsLimits) {
  EXPECT_GE(usable_cores().performance, 1);
  EXPECT_GE(usable_cores().all, usable_cores().performance);
  EXPECT_GT(usable_memory(), size_t{1} << 20);
  EXPECT_FALSE(cpu_name().empty());
  EXPECT_DOUBLE_EQ(parse_cpu_max("150000 100000\n"), 1.5);
  EXPECT_DOUBLE_EQ(parse_cpu_max("max 100000\n"), -1);
  EXPECT_DOUBLE_EQ(parse_cpu_max("-1\n 100000\n"), -1);
  EXPECT_DOUBLE_EQ(parse_cpu_max(""), -1);
  EXPECT_EQ(parse_cpu_list("0-3,8\n"), (std::vector{0, 1, 2, 3, 8}));
  EXPECT_TRUE(parse_cpu_list("").empty());
  EXPECT_EQ(parse_bytes("max\n"), -1);
  EXPECT_EQ(parse_bytes("1073741824\n"), 1073741824);
  const std::string v2 = "anon 7\nfile 900\ninactive_file 500\nactive_file 300\n";
  EXPECT_EQ(file_pages(v2, ""), 800);
  const std::string v1 = "cache 9\ninactive_file 1\nactive_file 2\ntotal_inactive_file 30\ntotal_active_file 40\n";
  EXPECT_EQ(file_pages(v1, "total_"), 70) << "with the groups below it";
  EXPECT_EQ(file_pages("", ""), 0);
  constexpr int64_t kNone = 0x7FFFFFFFFFFFF000;  // what version 1 says of a group without a limit
  EXPECT_EQ(left_of(100, 60, 20), 60);
  EXPECT_EQ(left_of(100, 120, 10), 0);
  EXPECT_EQ(left_of(100, 60, 70), 100);
  EXPECT_EQ(left_of(kNone, 1 << 20, 2 << 20), kNone) << "a file was read between the two";
}

TEST(Machine, CountsCores) {
  const auto count = [](std::vector<Cpu> cpus, double quota = -1) {
    const Cores cores = count_cores(cpus, quota);
    return std::pair{cores.all, cores.performance};
  };
  EXPECT_EQ(count({{"0,1"}, {"0,1"}, {"2"}, {"3"}}), std::pair(3, 3)) << "hyper-threads count once";
  EXPECT_EQ(count({{"0"}, {"1"}, {"2"}, {"3"}}, 1.5), std::pair(2, 2)) << "a quota rounds up";
  EXPECT_EQ(count({{"0"}, {"1"}}, 0.1), std::pair(1, 1));
  EXPECT_EQ(count({{"0,1", -1, true}, {"0,1", -1, true}, {"2"}, {"3"}}), std::pair(3, 1)) << "an Intel hybrid";
  EXPECT_EQ(count({{"2"}, {"3"}}), std::pair(2, 2)) << "its slow cores alone";
  EXPECT_EQ(count({{"0", 1024}, {"1", 1009}, {"2", 620}}), std::pair(3, 2)) << "by capacity";
}

}  // namespace
}  // namespace weft::cpu
