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

/// Up to this many tokens each thread normalizes for itself; beyond, the rows are shared out and waited for. At 8
/// tokens of 4096 that is 128 KiB of scratch and about 5 µs a thread, a few barriers' worth.
constexpr int64_t kRecomputeTokens = 8;

}  // namespace weft::cpu
