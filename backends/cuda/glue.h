// From graph's terms to those of the launchers.
#pragma once

#include "backends/cuda/device/activations.h"
#include "backends/cuda/device/extent.h"
#include "backends/cuda/device/gather.h"
#include "graph/backend.h"
#include "ops/activation.h"

namespace weft::cuda {

/// The leading dimension of a tensor, of which `live` may be a part.
inline Extent extent_of(const TensorType& type, const int32_t* live) {
  const int64_t capacity = type.shape.rank() == 0 ? 1 : type.shape[0];
  switch (type.rows) {
    case Rows::tokens:
      return {live, capacity};
    case Rows::logits:
      return {live + 1, capacity};
    case Rows::all:
      break;
  }
  return {nullptr, capacity};
}

inline GatherTable gather_table(const Tensor& table, const Tensor& ids, int64_t offset = 0) {
  return {table.data, table.type.dtype->id, table.dim(0), ids.as<int32_t>(), offset};
}

inline Act act_of(Activation activation) {
  switch (activation) {
    case Activation::gelu_tanh:
    case Activation::gated_gelu_tanh:
      return Act::gelu_tanh;
    case Activation::gelu_erf:
    case Activation::gated_gelu_erf:
      return Act::gelu_erf;
    case Activation::relu:
    case Activation::gated_relu:
      return Act::relu;
    case Activation::silu:
    case Activation::gated_silu:
      return Act::silu;
    case Activation::gated_swiglu_clamped:
      break;
  }
  return Act::swiglu_clamped;
}

/// Elements of one index of the leading dimension.
inline int64_t row_elements(const TensorType& type) {
  int64_t n = 1;
  for (int i = 1; i < type.shape.rank(); ++i) n *= type.shape[i];
  return n;
}

}  // namespace weft::cuda
