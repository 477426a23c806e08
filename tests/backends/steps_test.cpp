#include "backends/cpu/steps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "ops/quant/f32.h"

namespace weft::cpu {
namespace {

constexpr int64_t kN = 64;

/// Calls over slices of one array, as a plan's arena gives them.
class StepsTest : public ::testing::Test {
 protected:
  Tensor part(size_t i) {
    return {{quant::f32, {kN}, Rows::all}, reinterpret_cast<std::byte*>(cells_.data() + i * kN), nullptr};
  }
  Call call(std::initializer_list<size_t> in, std::initializer_list<size_t> out) {
    Call made;
    std::vector<Tensor> read;
    for (const size_t i : in) read.push_back(part(i));
    made.in.push_back({Slots<Tensor>::Slot(read)});
    for (const size_t i : out) made.out.push_back(part(i));
    return made;
  }
  /// One phase that writes part `to` = part `from` reversed + 1: every thread reads what others wrote.
  void reverse_phase(CpuSteps& steps, size_t from, size_t to) {
    steps.begin(call({from}, {to}), 0);
    float *x = part(from).as<float>(), *y = part(to).as<float>();
    steps.phase(kN, [x, y](int64_t first, int64_t last, const Worker&) {
      for (int64_t i = first; i < last; ++i) y[i] = x[kN - 1 - i] + 1;
    });
  }

  std::vector<float> cells_ = std::vector<float>(kN * 16, 0.0f);
  Team team_{2};
};

TEST_F(StepsTest, IndependentCallsShareABarrier) {
  CpuSteps steps(team_);
  const auto nothing = [](int64_t, int64_t, const Worker&) {};
  steps.begin(call({0}, {1}), 0);
  steps.phase(kN, nothing);
  EXPECT_EQ(steps.n_barriers(), 0) << "nothing runs before the first call";
  steps.begin(call({0}, {2}), 0);
  steps.phase(kN, nothing);
  EXPECT_EQ(steps.n_barriers(), 0) << "two products of one input are independent";
  steps.begin(call({2}, {3}), 0);
  steps.phase(kN, nothing);
  EXPECT_EQ(steps.n_barriers(), 1) << "reads what was written";
  steps.begin(call({1}, {4}), 0);
  steps.phase(kN, nothing);
  EXPECT_EQ(steps.n_barriers(), 1) << "written before the last barrier";
  steps.begin(call({5}, {2}), 0);
  steps.phase(kN, nothing);
  EXPECT_EQ(steps.n_barriers(), 2) << "overwrites what is still read: the arena reuses bytes";
  steps.begin(call({6}, {2}), 0);
  steps.phase(kN, nothing);
  EXPECT_EQ(steps.n_barriers(), 3) << "overwrites what was written";
}

TEST_F(StepsTest, PhasesOfACallWaitUnlessStated) {
  CpuSteps steps(team_);
  const auto nothing = [](int64_t, int64_t, const Worker&) {};
  steps.begin(call({0}, {1}), 0);
  steps.phase(kN, nothing);
  steps.phase(kN, nothing, After::nothing);
  EXPECT_EQ(steps.n_barriers(), 0);
  steps.phase(kN, nothing);
  EXPECT_EQ(steps.n_barriers(), 1);
  steps.begin(call({1}, {2}), 0);
  steps.phase(kN, nothing);
  EXPECT_EQ(steps.n_barriers(), 2) << "the barrier was before the call's last phase";
}

TEST_F(StepsTest, WorkspaceIsTracked) {
  CpuSteps steps(team_);
  const auto nothing = [](int64_t, int64_t, const Worker&) {};
  Call first = call({0}, {1}), second = call({2}, {3});
  first.workspace = second.workspace = part(8).data;
  steps.begin(first, 64);
  steps.phase(kN, nothing);
  steps.begin(second, 64);
  steps.phase(kN, nothing);
  EXPECT_EQ(steps.n_barriers(), 1) << "two calls share their scratch";
}

// A chain of reversals over few buffers: any barrier skipped by mistake shows in the values, or as a race under
// ThreadSanitizer.
TEST_F(StepsTest, HazardsAreCaught) {
  CpuSteps steps(team_);
  constexpr int kCalls = 200;
  for (size_t i = 0; i < kCalls; ++i) reverse_phase(steps, i % 3, (i + 1) % 3);
  EXPECT_EQ(steps.n_barriers(), kCalls - 1);
  CpuSegment segment(std::move(steps));
  for (int run = 1; run <= 20; ++run) {
    std::fill(cells_.begin(), cells_.end(), 0.0f);
    segment.launch();
    segment.wait();
    for (int64_t i = 0; i < kN; ++i) ASSERT_EQ(part(kCalls % 3).as<float>()[i], kCalls) << "run " << run;
  }
}

// The same chain with barriers left out must come out wrong sooner or later, or the test above proves nothing.
TEST_F(StepsTest, AMissingBarrierWouldShow) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a race on purpose";
#endif
  bool wrong = false;
  for (int attempt = 0; attempt < 50 && !wrong; ++attempt) {
    CpuSteps steps(team_);
    std::vector<std::atomic<int>> cells(2);
    steps.begin(call({}, {}), 0);
    steps.phase(2, [&](int64_t first, int64_t last, const Worker&) {
      for (int64_t i = first; i < last; ++i) {
        for (int spin = 0; spin < 1000 * static_cast<int>(i); ++spin) cells[1].load();
        cells[static_cast<size_t>(i)] = 1;
      }
    });
    steps.phase(
        2,
        [&](int64_t first, int64_t last, const Worker&) {
          for (int64_t i = first; i < last; ++i) wrong |= i == 0 && cells[1] == 0;
        },
        After::nothing);
    CpuSegment(std::move(steps)).launch();
  }
  if (!wrong) GTEST_SKIP() << "the machine ran the threads one after the other";
}

TEST_F(StepsTest, CountsAreReadAtRunTime) {
  CpuSteps steps(team_);
  int64_t live = 0, done = 0;
  std::mutex mutex;
  steps.begin(call({}, {}), 0);
  steps.phase([&live] { return live; },
              [&](int64_t first, int64_t last, const Worker&) {
                const std::lock_guard lock(mutex);
                done += last - first;
              });
  CpuSegment segment(std::move(steps));
  for (const int64_t n : {0, 1, 7, 64}) {
    live = n;
    done = 0;
    segment.launch();
    EXPECT_EQ(done, n);
  }
}

TEST_F(StepsTest, ScratchIsPrivateAndAligned) {
  CpuSteps steps(team_);
  steps.begin(call({}, {}), 0);
  steps.scratch(100);
  steps.scratch(40);
  std::byte* seen[2] = {nullptr, nullptr};
  steps.phase(2, [&seen](int64_t first, int64_t last, const Worker& worker) {
    for (int64_t i = first; i < last; ++i) seen[i] = worker.scratch;
    std::fill_n(worker.scratch, 100, std::byte{1});
  });
  CpuSegment segment(std::move(steps));
  segment.launch();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(seen[0]) % 64, 0U);
  EXPECT_TRUE(seen[0] == seen[1] || std::abs(seen[1] - seen[0]) >= 100);
}

// Kernels normalize once a thread and phase, and the share with task 0 writes what is written once.
TEST_F(StepsTest, EveryTaskIsGivenOnceAndTheFirstShareIsFresh) {
  for (const int n_threads : {1, 2, 3}) {
    Team team{n_threads};
    for (const int64_t grain : {1, 4, 12}) {
      for (const int64_t n : {0, 1, 3, 8, 13, 100, 1000}) {
        std::vector<std::atomic<int>> given(static_cast<size_t>(n));
        std::vector<int> shares(static_cast<size_t>(n_threads), 0);
        std::atomic<int> stale_zeros{0}, unaligned{0}, wrong{0};
        CpuSteps steps(team);
        steps.begin(call({}, {}), 0);
        const auto work = [&](int64_t first, int64_t last, const Worker& worker) {
          stale_zeros += first == 0 && !worker.fresh;
          wrong += worker.fresh != (shares[static_cast<size_t>(worker.index)]++ == 0);
          unaligned += first % grain != 0;
          for (int64_t i = first; i < last; ++i) ++given[static_cast<size_t>(i)];
        };
        steps.phase(n, work, After::previous, grain);
        CpuSegment segment(std::move(steps));
        for (int run = 1; run <= 3; ++run) {
          std::ranges::fill(shares, 0);
          segment.launch();
          for (const std::atomic<int>& times : given)
            ASSERT_EQ(times, run) << n << " tasks, " << n_threads << " threads";
        }
        EXPECT_EQ(stale_zeros, 0);
        EXPECT_EQ(wrong, 0);
        EXPECT_EQ(unaligned, 0);
      }
    }
  }
}

// A fast and a slow core: the fixed shares follow what each does.
TEST(Shares, FollowTheSpeedOfThreads) {
  Shares shares(3);
  const auto size = [&](int t) { return static_cast<double>(shares.begin(1200, t + 1) - shares.begin(1200, t)); };
  EXPECT_EQ(size(0), 400);
  EXPECT_EQ(size(2), 400);
  const auto runs = [&](std::vector<double> done) {
    for (int run = 0; run < 60; ++run) {
      for (int t = 0; t < 3; ++t) shares.did(t, done[static_cast<size_t>(t)]);
      shares.learn();
    }
  };
  runs({4, 3, 1});
  EXPECT_NEAR(size(0), 600, 10);
  EXPECT_NEAR(size(2), 150, 10);
  runs({1, 1, 0});
  EXPECT_NEAR(size(2), 80, 10) << "a thread that does nothing is still tried";
  runs({0, 0, 0});
  EXPECT_NEAR(size(0), 560, 10) << "no news";
  EXPECT_EQ(shares.begin(1200, 0), 0);
  EXPECT_EQ(shares.begin(1200, 3), 1200);
}

TEST(Share, CoversEveryTaskOnce) {
  for (const int64_t n : {0, 1, 2, 7, 100}) {
    for (const int64_t parts : {1, 2, 3, 8}) {
      EXPECT_EQ(share_begin(n, 0, parts), 0);
      EXPECT_EQ(share_begin(n, parts, parts), n);
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t size = share_begin(n, i + 1, parts) - share_begin(n, i, parts);
        EXPECT_GE(size, n / parts);
        EXPECT_LE(size, n / parts + 1);
      }
    }
  }
}

}  // namespace
}  // namespace weft::cpu
