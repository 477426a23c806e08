#include "ops/movement.h"

#include <array>
#include <cstring>

#include "backends/ref/primitives.h"
#include "backends/ref/rows.h"

namespace weft::ref {
namespace {

size_t element_bytes(const Call& call) { return call.out[0].type.dtype->block_bytes; }

int64_t product(const Shape& shape, int first, int last) {
  int64_t n = 1;
  for (int i = first; i < last; ++i) n *= shape[i];
  return n;
}

/// Usually the planner gives both values the same bytes and nothing is left to do.
void run_reshape(const Call& call, int64_t first, int64_t last) {
  const Tensor x = call.input(Reshape::kX), y = call.out[0];
  if (x.data == y.data) return;
  const size_t row = static_cast<size_t>(row_view(y.type, call.live).columns) * element_bytes(call);
  std::memcpy(y.data + static_cast<size_t>(first) * row, x.data + static_cast<size_t>(first) * row,
              static_cast<size_t>(last - first) * row);
}

void run_permute(const Call& call, int64_t first, int64_t last) {
  const Tensor x = call.input(Permute::kX), y = call.out[0];
  const auto& order = call.match.op<Permute>().order;
  const int rank = y.type.shape.rank();
  const size_t bytes = element_bytes(call);
  std::array<int64_t, Shape::kMaxRank> strides{};  // in x, by dimension of y
  for (int i = 0; i < rank; ++i) {
    strides[static_cast<size_t>(i)] = product(x.type.shape, static_cast<int>(order[static_cast<size_t>(i)]) + 1, rank);
  }
  const int64_t columns = row_view(y.type, call.live).columns;
  for (int64_t i = first * columns; i < last * columns; ++i) {
    int64_t rest = i, from = 0;
    for (int dim = rank - 1; dim >= 0; --dim) {
      from += rest % y.type.shape[dim] * strides[static_cast<size_t>(dim)];
      rest /= y.type.shape[dim];
    }
    std::memcpy(y.data + static_cast<size_t>(i) * bytes, x.data + static_cast<size_t>(from) * bytes, bytes);
  }
}

/// Elements [begin, end) of y, in runs that are contiguous in x.
void run_slice(const Call& call, int64_t first, int64_t last) {
  const Tensor x = call.input(Slice::kX), y = call.out[0];
  const Slice& op = call.match.op<Slice>();
  const size_t bytes = element_bytes(call);
  const int dim = static_cast<int>(op.dim);
  const int64_t inner = product(y.type.shape, dim + 1, y.type.shape.rank());
  const int64_t run = op.length * inner, x_run = x.type.shape[dim] * inner;
  const int64_t columns = row_view(y.type, call.live).columns, end = last * columns;
  for (int64_t i = first * columns; i < end;) {
    const int64_t outer = i / run, within = i % run, n = std::min(run - within, end - i);
    const int64_t from = outer * x_run + op.start * inner + within;
    std::memcpy(y.data + static_cast<size_t>(i) * bytes, x.data + static_cast<size_t>(from) * bytes,
                static_cast<size_t>(n) * bytes);
    i += n;
  }
}

void run_concat(const Call& call, int64_t first, int64_t last) {
  const Tensor y = call.out[0];
  const auto parts = call.inputs(Concat::kX);
  const size_t bytes = element_bytes(call);
  const int dim = static_cast<int>(call.match.op<Concat>().dim);
  const int64_t inner = product(y.type.shape, dim + 1, y.type.shape.rank()), run = y.type.shape[dim] * inner;
  const int64_t columns = row_view(y.type, call.live).columns, end = last * columns;
  for (int64_t i = first * columns; i < end;) {
    const int64_t outer = i / run;
    int64_t within = i % run;
    size_t part = 0;
    while (within >= parts[part].type.shape[dim] * inner) within -= parts[part++].type.shape[dim] * inner;
    const int64_t part_run = parts[part].type.shape[dim] * inner, n = std::min(part_run - within, end - i);
    std::memcpy(y.data + static_cast<size_t>(i) * bytes,
                parts[part].data + static_cast<size_t>(outer * part_run + within) * bytes,
                static_cast<size_t>(n) * bytes);
    i += n;
  }
}

constexpr Primitive kPrimitives[] = {
    {Reshape::name, output_rows, run_reshape},
    {Permute::name, output_rows, run_permute},
    {Slice::name, output_rows, run_slice},
    {Concat::name, output_rows, run_concat},
};

}  // namespace

std::span<const Primitive> movement_primitives() { return kPrimitives; }

}  // namespace weft::ref
