// How loops see a tensor: live rows of contiguous elements.
#pragma once

#include <algorithm>

#include "graph/backend.h"

namespace weft::ref {

struct RowView {
  int64_t rows = 1;
  int64_t columns = 1;
};

/// A vector is rows of one element, so that its live elements can be counted and shared out. The live count is held to
/// the capacity: it is data.
inline RowView row_view(const TensorType& type, const int32_t* live) {
  const Shape& shape = type.shape;
  if (shape.rank() == 0) return {};
  const int64_t leading = std::clamp<int64_t>(live_rows(type, live), 0, shape[0]);
  if (shape.rank() == 1) return {leading, 1};
  int64_t rows = leading;
  for (int i = 1; i + 1 < shape.rank(); ++i) rows *= shape[i];
  return {rows, shape[-1]};
}

inline int64_t output_rows(const Call& call) { return row_view(call.out[0].type, call.live).rows; }

/// Sum in f64; four at a time so that the sum is not one chain.
inline double dot(const float* a, const float* b, int64_t n) {
  double sum[4] = {0, 0, 0, 0};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int64_t j = 0; j < 4; ++j) sum[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
  }
  for (; i < n; ++i) sum[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/// Decodes row `row` of a tensor of any type.
inline void decode_row(const Tensor& tensor, int64_t row, float* out) {
  tensor.type.dtype->decode(tensor.data + static_cast<size_t>(row) * tensor.type.row_bytes(), out,
                            static_cast<size_t>(tensor.type.shape.columns()));
}

}  // namespace weft::ref
