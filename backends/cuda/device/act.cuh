// What kernels do to one element.
#pragma once

#include "backends/cuda/device/activations.h"

namespace weft::cuda {

/// The functions that activations are made of.
struct Precise {
  static __device__ float exp(float x) { return expf(x); }
  static __device__ float divide(float x, float y) { return x / y; }
  static __device__ float tanh(float x) { return tanhf(x); }
};
/// By the hardware's approximations, right to some 2^-20: for what is rounded to 16 bits.
struct Quick {
  static __device__ float exp(float x) { return __expf(x); }
  static __device__ float divide(float x, float y) { return __fdividef(x, y); }
  static __device__ float tanh(float x) { return 1.0f - __fdividef(2.0f, __expf(2.0f * x) + 1.0f); }
};

template <typename Math = Precise>
__device__ float apply(Act act, float x) {
  switch (act) {
    case Act::gelu_tanh:
      return 0.5f * x * (1.0f + Math::tanh(0.7978845608f * (x + 0.044715f * x * x * x)));
    case Act::gelu_erf:
      return 0.5f * x * (1.0f + erff(x * 0.7071067812f));
    case Act::relu:
      return fmaxf(x, 0.0f);
    case Act::silu:
      return Math::divide(x, 1.0f + Math::exp(-x));
    case Act::none:
    case Act::swiglu_clamped:
      break;
  }
  return x;
}

template <typename Math = Precise>
__device__ float apply_gated(Act act, float up, float gate, float alpha, float limit) {
  if (act != Act::swiglu_clamped) return apply<Math>(act, gate) * up;
  const float g = fminf(gate, limit), u = fminf(fmaxf(up, -limit), limit);
  return (u + 1.0f) * Math::divide(g, 1.0f + Math::exp(-alpha * g));
}

__device__ inline float residual_of(const Residual& r, int64_t t, int64_t column, int64_t d) {
  float sum = 0;
  for (const float* term : r.shared) sum += term != nullptr ? term[t * d + column] : 0.0f;
  for (const float* bias : r.bias) sum += bias != nullptr ? bias[column] : 0.0f;
  return sum * r.scale + (r.plain != nullptr ? r.plain[t * d + column] : 0.0f);
}

}  // namespace weft::cuda
