// Device memory with an owner.
#pragma once

#include <cstddef>
#include <utility>

namespace weft {

class Backend;

/// Bytes on one device, returned to its backend when destroyed. `data` is a host address only on host devices.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Backend& backend, int device, std::byte* data, size_t bytes)
      : backend_(&backend), device_(device), data_(data), bytes_(bytes) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~Buffer();

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(backend_, other.backend_);
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  Backend* backend_ = nullptr;
  int device_ = 0;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace weft
