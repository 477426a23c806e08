// Host memory that a device copies to by itself.
#pragma once

#include <cstddef>
#include <map>
#include <memory_resource>
#include <mutex>

namespace weft::cuda {

/// Pieces of up to kMostPinned bytes are pinned, if the driver has them to give; others are ordinary memory.
class PinnedMemory : public std::pmr::memory_resource {
 public:
  static constexpr size_t kMostPinned = size_t{256} << 20;

  bool is_pinned(const void* data, size_t bytes) const;

 private:
  void* do_allocate(size_t bytes, size_t alignment) override;
  void do_deallocate(void* data, size_t bytes, size_t alignment) override;
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  mutable std::mutex mutex_;
  std::map<const std::byte*, size_t> pinned_;  // bytes by start
};

}  // namespace weft::cuda
