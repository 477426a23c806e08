#include "backends/cpu/team.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <omp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <limits>

#include "backends/cpu/machine.h"

namespace weft::cpu {
namespace {

// About 20 µs of spinning: several times the longest wait between balanced phases.
constexpr int kSpins = 1000;

long futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
  static_assert(sizeof word == sizeof(uint32_t));
  return syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0);
}

}  // namespace

void Barrier::wait_past(uint32_t epoch) {
  for (int i = 0; i < kSpins; ++i) {
    if (epoch_.load(std::memory_order_acquire) != epoch) return;
    _mm_pause();
  }
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (epoch_.load(std::memory_order_seq_cst) == epoch) futex(epoch_, FUTEX_WAIT_PRIVATE, epoch);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

void Barrier::wake() { futex(epoch_, FUTEX_WAKE_PRIVATE, std::numeric_limits<int>::max()); }

Team::Team(int n_threads) : size_(n_threads > 0 ? n_threads : usable_cores().performance) {}

void Team::enter(int thread, int n_threads) {
  static_cast<void>(started_.load(std::memory_order_acquire));
  (*member_)(thread, n_threads);
  finished_.fetch_add(1, std::memory_order_release);
}

// ThreadSanitizer sees neither the fork nor the join of a region: its captured variables would look like races. What
// crosses them is ordered by started_ and finished_ instead.
#if defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize("thread")))
#endif
static void
parallel(void (*body)(void*, int, int), void* team, int size) {
#pragma omp parallel num_threads(size)
  body(team, omp_get_thread_num(), omp_get_num_threads());
}

void Team::run(const Member& member) {
  const std::lock_guard lock(running_);
  member_ = &member;
  started_.fetch_add(1, std::memory_order_release);
  parallel([](void* team, int thread, int n_threads) { static_cast<Team*>(team)->enter(thread, n_threads); }, this,
           size_);
  static_cast<void>(finished_.exchange(0, std::memory_order_acquire));  // the region has joined: all have added
}

}  // namespace weft::cpu
