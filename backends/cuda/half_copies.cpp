#include "backends/cuda/half_copies.h"

#include "backends/cuda/device/expand.h"
#include "backends/cuda/device/weights.h"

namespace weft::cuda {

const uint16_t* HalfCopies::get(const Tensor& weight, cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  if (const auto it = copies_.find(weight.data); it != copies_.end()) return it->second.data;
  const int64_t rows = weight.dim(0), k = weight.dim(1);
  const size_t bytes = static_cast<size_t>(rows * k) * sizeof(uint16_t);
  if (bytes_ + bytes > budget_) return nullptr;
  void* data = nullptr;
  if (cudaMalloc(&data, bytes) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  auto* copy = static_cast<uint16_t*>(data);
  const uint32_t type = weight.type.dtype->id;
  if (!launch_expand(type, weight.data, rows, k, 0, rows, copy, stream))
    launch_decode_half(type, weight.data, copy, rows * k, stream);
  copies_[weight.data] = {copy, bytes};
  bytes_ += bytes;
  return copy;
}

void HalfCopies::forget(const std::byte* weight) noexcept {
  const std::lock_guard lock(mutex_);
  const auto it = copies_.find(weight);
  if (it == copies_.end()) return;
  cudaFree(it->second.data);
  bytes_ -= it->second.bytes;
  copies_.erase(it);
}

HalfCopies::~HalfCopies() {
  for (const auto& [weight, copy] : copies_) cudaFree(copy.data);
}

}  // namespace weft::cuda
