// Weights on their way to a device: the link is faster than one core copies.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

namespace weft::cuda {

/// Copies by several threads into pinned memory, from where the device takes it. The memory is pinned at the first
/// write and stays.
class Upload {
 public:
  static constexpr size_t kWorthIt = size_t{2} << 20;  // bytes

  Upload() = default;
  ~Upload();
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  /// Returns when `from` has been read; on the device it is in the order of `stream`. Throws Error.
  void write(int device, cudaStream_t stream, std::byte* to, const std::byte* from, size_t bytes);

 private:
  /// A piece of pinned memory, and when the device has taken what was in it.
  struct Slot {
    std::byte* memory = nullptr;
    cudaEvent_t taken = nullptr;
  };
  void prepare();

  std::vector<Slot> slots_;
};

}  // namespace weft::cuda
