// A standing team of OpenMP threads and our own barrier. ThreadSanitizer cannot read libgomp's synchronization, so
// everything the threads exchange goes through the atomics here.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>

namespace weft::cpu {

/// All threads arrive, then all leave; what was written before is visible after. Spins briefly, then sleeps, so that a
/// busy machine gives the processor to the thread that is waited for.
class Barrier {
 public:
  void wait(int n_threads) {
    const uint32_t epoch = epoch_.load(std::memory_order_relaxed);  // cannot advance before this thread arrives
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == n_threads - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      epoch_.store(epoch + 1, std::memory_order_seq_cst);
      if (sleepers_.load(std::memory_order_seq_cst) > 0) wake();
    } else {
      wait_past(epoch);
    }
  }

 private:
  void wait_past(uint32_t epoch);
  void wake();

  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};
  std::atomic<int> sleepers_{0};  // who counts itself here before it sees an old epoch is woken
};

class Team {
 public:
  using Member = std::function<void(int thread, int n_threads)>;

  /// 0: the performance cores this process may use (machine.h).
  explicit Team(int n_threads);

  /// The most threads a run has; the OpenMP runtime may grant fewer.
  int size() const { return size_; }
  /// Runs `member` once on each thread, the calling one included, and returns when all have returned. One run at a
  /// time: callers queue. `member` must not throw.
  void run(const Member& member);
  /// For use inside a run, by all its threads.
  Barrier& barrier() { return barrier_; }

 private:
  void enter(int thread, int n_threads);

  int size_;
  std::mutex running_;
  Barrier barrier_;
  const Member* member_ = nullptr;
  alignas(64) std::atomic<uint32_t> started_{0};  // published by run(), read by each thread as it enters
  alignas(64) std::atomic<int> finished_{0};      // added to by each thread as it leaves
};

}  // namespace weft::cpu
