#include "ops/reduce.h"

#include <algorithm>

#include "backends/ref/primitives.h"
#include "backends/ref/rows.h"

namespace weft::ref {
namespace {

/// Unlike other vectors, a vector that is reduced is one row: the dimension is used up, live or not.
RowView reduced_view(const Call& call) {
  const TensorType x = call.input(0).type;
  return x.shape.rank() == 1 ? RowView{1, x.shape[0]} : row_view(x, call.live);
}

int64_t reduced_rows(const Call& call) { return reduced_view(call).rows; }

void run_sum(const Call& call, int64_t first, int64_t last) {
  const int64_t columns = reduced_view(call).columns;
  for (int64_t row = first; row < last; ++row) {
    const float* x = call.input(ReduceSum::kX).as<float>() + row * columns;
    double sum = 0;
    for (int64_t i = 0; i < columns; ++i) sum += static_cast<double>(x[i]);
    call.out[0].as<float>()[row] = static_cast<float>(sum);
  }
}

void run_max(const Call& call, int64_t first, int64_t last) {
  const int64_t columns = reduced_view(call).columns;
  for (int64_t row = first; row < last; ++row) {
    const float* x = call.input(ReduceMax::kX).as<float>() + row * columns;
    call.out[0].as<float>()[row] = *std::max_element(x, x + columns);
  }
}

/// k times the largest that is left; NaN is never larger.
void run_top_k(const Call& call, int64_t first, int64_t last) {
  const int64_t columns = reduced_view(call).columns, k = call.match.op<TopK>().k;
  const Tensor values = call.out[0], indices = call.out[1];
  std::vector<bool> taken(static_cast<size_t>(columns));
  for (int64_t row = first; row < last; ++row) {
    const float* x = call.input(TopK::kX).as<float>() + row * columns;
    taken.assign(taken.size(), false);
    for (int64_t j = 0; j < k; ++j) {
      int64_t best = -1;
      for (int64_t i = 0; i < columns; ++i) {
        if (!taken[static_cast<size_t>(i)] && (best < 0 || x[i] > x[best])) best = i;
      }
      taken[static_cast<size_t>(best)] = true;
      if (values) values.as<float>()[row * k + j] = x[best];
      if (indices) indices.as<int32_t>()[row * k + j] = static_cast<int32_t>(best);
    }
  }
}

constexpr Primitive kPrimitives[] = {
    {ReduceSum::name, reduced_rows, run_sum},
    {ReduceMax::name, reduced_rows, run_max},
    {TopK::name, reduced_rows, run_top_k},
};

}  // namespace

std::span<const Primitive> reduce_primitives() { return kPrimitives; }

}  // namespace weft::ref
