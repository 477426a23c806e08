// A logit and its token as one number: the largest number is the largest logit and, of equal ones, the lowest token.
#pragma once

#include <cuda_runtime.h>

#include <cfloat>
#include <cstdint>

namespace weft::cuda {

/// In the order of the logits; 0 is less than that of any.
__device__ inline unsigned order_of(float logit) {
  const float held = isnan(logit) ? -INFINITY : fminf(logit, FLT_MAX) + 0.0f;  // -0 becomes 0
  const auto bits = static_cast<unsigned>(__float_as_int(held));
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline uint64_t number_of(unsigned order, unsigned token) {
  return uint64_t{order} << 32 | (0xFFFFFFFFu - token);
}

}  // namespace weft::cuda
