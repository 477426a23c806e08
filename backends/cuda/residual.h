// What residual_add adds, for the kernels that end with it.
#pragma once

#include "backends/cuda/device/activations.h"
#include "graph/backend.h"
#include "ops/residual_add.h"

namespace weft::cuda {

/// The terms of node `n` of a call, but for `hidden`: ops/residual_add.h has the three forms.
inline Residual residual_of(const Call& call, size_t n) {
  const auto& op = call.match.op<ResidualAdd>(n);
  const auto input = [&](ResidualAdd::Input slot) -> const float* { return call.input(slot, n).as<float>(); };
  Residual r{.shared = {input(ResidualAdd::kResidual), nullptr},
             .bias = {input(ResidualAdd::kFinalBias), nullptr},
             .scale = 1.0f / static_cast<float>(op.mp_size)};
  if (op.mlp_after_attn && !op.pre_layer_norm) {  // post-norm: attention and its bias play no part
    r.scale = 1;
    return r;
  }
  r.bias[1] = input(ResidualAdd::kAttentionBias);
  (op.mlp_after_attn ? r.shared[1] : r.plain) = input(ResidualAdd::kAttention);
  return r;
}

}  // namespace weft::cuda
