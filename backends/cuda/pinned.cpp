#include "backends/cuda/pinned.h"

#include <cuda_runtime_api.h>

namespace weft::cuda {

bool PinnedMemory::is_pinned(const void* data, size_t bytes) const {
  const auto* begin = static_cast<const std::byte*>(data);
  const std::lock_guard lock(mutex_);
  const auto after = pinned_.upper_bound(begin);
  if (after == pinned_.begin()) return false;
  const auto& [start, size] = *std::prev(after);
  return begin + bytes <= start + size;
}

void* PinnedMemory::do_allocate(size_t bytes, size_t alignment) {
  void* data = nullptr;
  if (bytes == 0 || bytes > kMostPinned || cudaMallocHost(&data, bytes) != cudaSuccess) {
    cudaGetLastError();
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  const std::lock_guard lock(mutex_);
  pinned_[static_cast<const std::byte*>(data)] = bytes;
  return data;
}

void PinnedMemory::do_deallocate(void* data, size_t bytes, size_t alignment) {
  const std::lock_guard lock(mutex_);
  if (pinned_.erase(static_cast<const std::byte*>(data)) > 0) {
    cudaDeviceSynchronize();  // a copy that nobody waited for may be under way
    cudaFreeHost(data);
  } else {
    std::pmr::new_delete_resource()->deallocate(data, bytes, alignment);
  }
}

}  // namespace weft::cuda
