// What a node costs under a workload, and how long that takes on a device (the roofline: whichever of memory and
// arithmetic is slower, plus the launch). Source: Williams, Waterman, Patterson, "Roofline", CACM 2009.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "graph/tensor.h"

namespace weft {

/// How much of a plan's capacity is expected to be live in a step.
struct Workload {
  int64_t tokens = 1;     // tokens fed
  int64_t logits = 1;     // tokens whose logits are wanted
  int64_t sequences = 1;  // sequences in the batch
  int64_t kv_length = 1;  // mean cached tokens a sequence attends to
};

struct Cost {
  double flops = 0;
  double weight_bytes = 0;      // weights and KV cache: streamed once a step
  double activation_bytes = 0;  // inputs and outputs of the step

  double bytes() const { return weight_bytes + activation_bytes; }
  Cost& operator+=(const Cost& other) {
    flops += other.flops;
    weight_bytes += other.weight_bytes;
    activation_bytes += other.activation_bytes;
    return *this;
  }
};

/// Leading dimension that is live under the workload.
inline int64_t live_rows(const TensorType& type, const Workload& workload) {
  const int64_t capacity = type.shape.rank() == 0 ? 1 : type.shape[0];
  switch (type.rows) {
    case Rows::tokens:
      return std::min(capacity, workload.tokens);
    case Rows::logits:
      return std::min(capacity, workload.logits);
    case Rows::all:
      break;
  }
  return capacity;
}

/// Bytes of a tensor that are touched under the workload.
inline double live_bytes(const TensorType& type, const Workload& workload) {
  if (!type || type.shape.rank() == 0 || type.shape[0] == 0) return 0;
  return static_cast<double>(type.bytes()) / static_cast<double>(type.shape[0]) *
         static_cast<double>(live_rows(type, workload));
}

}  // namespace weft
