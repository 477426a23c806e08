// Weights as lists of row blocks: q, k, v or up, gate stay separate tensors, each of its own type, and act as one
// matrix of their concatenated rows.
#pragma once

#include <span>
#include <string_view>

#include "graph/cost.h"
#include "ops/check.h"
#include "ops/elementwise.h"
#include "ops/movement.h"

namespace weft {

/// Rows of all blocks together. Every block must be [N_i, columns].
inline int64_t check_blocks(std::span<const TensorType> blocks, int64_t columns, std::string_view what,
                            std::string_view input) {
  int64_t rows = 0;
  for (const TensorType& block : blocks) {
    check_rank(block, 2, what);
    require(block.shape[1] == columns, "{} has {} columns, {} has {}", what, block.shape[1], input, columns);
    rows += block.shape[0];
  }
  return rows;
}

/// A bias is absent, one vector, or one vector for each weight block; n elements together.
inline void check_bias(std::span<const TensorType> biases, int64_t n, std::string_view what) {
  if (biases.empty()) return;
  int64_t given = 0;
  for (const TensorType& bias : biases) {
    check_dtype(bias, quant::f32, what);
    check_rank(bias, 1, what);
    given += bias.shape[0];
  }
  require(given == n, "{} has {} elements, the weight has {} rows", what, given, n);
}

/// y plus a bias given whole, by block or not at all.
inline Value add_bias(Value y, std::span<const Value> biases) {
  if (biases.empty()) return y;
  return add(y, concat(0, {biases.begin(), biases.end()}));
}

/// Cost of x W^T for every live row of x, the weight streamed once.
inline Cost matmul_cost(const TensorType& x, std::span<const TensorType> weight, const Workload& workload) {
  Cost cost;
  const auto rows = static_cast<double>(live_rows(x, workload));
  for (const TensorType& block : weight) {
    cost.flops += 2 * rows * static_cast<double>(block.shape.elements());
    cost.weight_bytes += static_cast<double>(block.bytes());
    cost.activation_bytes += rows * static_cast<double>(block.shape[0]) * sizeof(float);
  }
  cost.activation_bytes += live_bytes(x, workload);
  return cost;
}

}  // namespace weft
