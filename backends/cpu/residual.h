// The terms of residual_add, for the op itself and for the epilogue of mlp_gemm.
#pragma once

#include "graph/backend.h"
#include "ops/residual_add.h"

namespace weft::cpu {

/// y[t, c] = hidden[t, c] + what residual_add adds to it.
class Residual {
 public:
  /// `node`: the residual_add in the call's chain.
  Residual(const Call& call, size_t node);

  /// For columns [first, last) of token t; hidden and y point to column `first` and may be equal.
  void add(const float* hidden, int64_t t, int64_t first, int64_t last, float* y) const;

 private:
  const float *residual_, *attention_, *attention_bias_, *final_bias_;
  int64_t d_;
  float inverse_mp_;
  bool parallel_;
};

}  // namespace weft::cpu
