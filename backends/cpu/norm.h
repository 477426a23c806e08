// Normalization of rows, as one value that fused kernels and the norm ops share.
#pragma once

#include "backends/cpu/isa/isa.h"
#include "graph/tensor.h"
#include "ops/norm.h"

namespace weft::cpu {

struct Norm {
  const IsaKernels* isa;
  NormKind kind;
  float eps;
  const float *gamma, *beta;  // [n]; beta may be null
  int64_t n;

  /// y may be x.
  void operator()(const float* x, float* y) const {
    if (kind == NormKind::layer) {
      isa->layer_norm(x, gamma, beta, eps, n, y);
    } else {
      isa->rms_norm(x, gamma, eps, n, y);
    }
  }
};

}  // namespace weft::cpu
