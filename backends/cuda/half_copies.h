// f16 copies of quantized weights, for products of many tokens: made once, when a plan first wants them, in memory that
// nothing else has taken. A product without one makes its copy each time, a panel at a time.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>

#include "graph/backend.h"

namespace weft::cuda {

class HalfCopies {
 public:
  /// Copies may take this much; less than before frees nothing.
  void set_budget(size_t bytes) { budget_ = bytes; }

  /// The copy of a weight [rows, k], as it is laid out for skinny products; null if it does not fit. The work goes
  /// to the stream.
  const uint16_t* get(const Tensor& weight, cudaStream_t stream);
  /// The weight's memory is being given back.
  void forget(const std::byte* weight) noexcept;
  size_t bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }
  ~HalfCopies();

 private:
  struct Copy {
    uint16_t* data;
    size_t bytes;
  };
  mutable std::mutex mutex_;
  std::map<const std::byte*, Copy> copies_;
  size_t budget_ = 0, bytes_ = 0;
};

}  // namespace weft::cuda
