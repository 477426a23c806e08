#include "ops/matmul.h"

#include "backends/ref/primitives.h"
#include "backends/ref/rows.h"

namespace weft::ref {
namespace {

int64_t weight_rows(const Call& call) {
  int64_t n = 0;
  for (const Tensor& block : call.inputs(Matmul::kWeight)) n += block.dim(0);
  return n;
}

/// A range of weight rows, so that each is decoded once.
void run_matmul(const Call& call, int64_t first, int64_t last) {
  const Tensor x = call.input(Matmul::kX), y = call.out[0];
  const RowView view = row_view(x.type, call.live);
  const int64_t n_out = y.type.shape.columns();
  std::vector<float> row(static_cast<size_t>(view.columns));
  int64_t block_first = 0;
  for (const Tensor& block : call.inputs(Matmul::kWeight)) {
    const int64_t block_last = block_first + block.dim(0);
    for (int64_t n = std::max(first, block_first); n < std::min(last, block_last); ++n) {
      decode_row(block, n - block_first, row.data());
      for (int64_t t = 0; t < view.rows; ++t) {
        y.as<float>()[t * n_out + n] =
            static_cast<float>(dot(x.as<float>() + t * view.columns, row.data(), view.columns));
      }
    }
    block_first = block_last;
  }
}

/// A range of rows of all products.
void run_batch_matmul(const Call& call, int64_t first, int64_t last) {
  const Tensor a = call.input(BatchMatmul::kA), b = call.input(BatchMatmul::kB), y = call.out[0];
  const int64_t m = y.dim(1), n = y.dim(2), k = a.dim(2);
  const bool transposed = call.match.op<BatchMatmul>().transpose_b;
  std::vector<double> sums(static_cast<size_t>(n));
  for (int64_t row = first; row < last; ++row) {
    const float* from = a.as<float>() + row * k;
    const float* matrix = b.as<float>() + row / m * n * k;
    float* to = y.as<float>() + row * n;
    if (transposed) {
      for (int64_t j = 0; j < n; ++j) to[j] = static_cast<float>(dot(from, matrix + j * k, k));
      continue;
    }
    sums.assign(sums.size(), 0.0);
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        sums[static_cast<size_t>(j)] += static_cast<double>(from[i]) * static_cast<double>(matrix[i * n + j]);
      }
    }
    for (int64_t j = 0; j < n; ++j) to[j] = static_cast<float>(sums[static_cast<size_t>(j)]);
  }
}

int64_t expert_rows(const Call& call) { return call.input(IndexedMatmul::kWeight).dim(1); }

/// A range of rows of every expert's matrix.
void run_indexed_matmul(const Call& call, int64_t first, int64_t last) {
  const Tensor x = call.input(IndexedMatmul::kX), ids = call.input(IndexedMatmul::kIds), y = call.out[0];
  const Tensor weight = call.input(IndexedMatmul::kWeight);
  const int64_t k = ids.dim(1), columns = weight.dim(2), n_out = weight.dim(1);
  const int64_t picks = row_view(y.type, call.live).rows;
  const int64_t picks_per_row = x.type.shape.rank() == 2 ? k : 1;
  std::vector<float> row(static_cast<size_t>(columns));
  for (int64_t n = first; n < last; ++n) {
    for (int64_t pick = 0; pick < picks; ++pick) {
      const int32_t expert = ids.as<int32_t>()[pick];
      float& to = y.as<float>()[pick * n_out + n];
      to = 0;
      if (expert < 0 || expert >= weight.dim(0)) continue;
      decode_row(weight, expert * n_out + n, row.data());
      to = static_cast<float>(dot(x.as<float>() + pick / picks_per_row * columns, row.data(), columns));
    }
  }
}

constexpr Primitive kPrimitives[] = {
    {Matmul::name, weight_rows, run_matmul},
    {BatchMatmul::name, output_rows, run_batch_matmul},
    {IndexedMatmul::name, expert_rows, run_indexed_matmul},
};

}  // namespace

std::span<const Primitive> matmul_primitives() { return kPrimitives; }

}  // namespace weft::ref
