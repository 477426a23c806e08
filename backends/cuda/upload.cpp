#include "backends/cuda/upload.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "backends/cuda/check.h"

namespace weft::cuda {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr size_t kSlotsEach = 2;  // of a thread: one is filled while the other is taken
constexpr unsigned kMostThreads = 8;

}  // namespace

void Upload::prepare() {
  if (!slots_.empty()) return;
  slots_.resize(kSlotsEach * std::clamp(std::thread::hardware_concurrency(), 1u, kMostThreads));
  for (Slot& slot : slots_) {
    check(cudaMallocHost(reinterpret_cast<void**>(&slot.memory), kPiece), "pinning memory");
    check(cudaEventCreateWithFlags(&slot.taken, cudaEventDisableTiming), "making an event");
  }
}

Upload::~Upload() {
  for (const Slot& slot : slots_) {
    if (slot.taken != nullptr) {
      cudaEventSynchronize(slot.taken);
      cudaEventDestroy(slot.taken);
    }
    cudaFreeHost(slot.memory);
  }
}

void Upload::write(int device, cudaStream_t stream, std::byte* to, const std::byte* from, size_t bytes) {
  prepare();
  const size_t n_pieces = (bytes + kPiece - 1) / kPiece, n_threads = std::min(slots_.size() / kSlotsEach, n_pieces);
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failed;
  const auto work = [&](size_t thread) {
    try {
      check(cudaSetDevice(device), "choosing a device");
      for (size_t turn = 0; true; ++turn) {
        const size_t at = next.fetch_add(1) * kPiece;
        if (at >= bytes) return;
        const Slot& slot = slots_[thread * kSlotsEach + turn % kSlotsEach];
        const size_t n = std::min(kPiece, bytes - at);
        check(cudaEventSynchronize(slot.taken), "writing to a device");
        std::memcpy(slot.memory, from + at, n);
        check(cudaMemcpyAsync(to + at, slot.memory, n, cudaMemcpyHostToDevice, stream), "writing to a device");
        check(cudaEventRecord(slot.taken, stream), "writing to a device");
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failed = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (size_t thread = 1; thread < n_threads; ++thread) threads.emplace_back(work, thread);
    work(0);
  }
  if (failed) std::rethrow_exception(failed);
}

}  // namespace weft::cuda
