// Weights as lists of row blocks, multiplied by ranges of rows: what every projection is made of.
//
// Tasks are units of kRowUnit rows and a thread's share of them is contiguous. How rows and tokens are cut changes no
// output: each element is the same arithmetic whatever its tile (isa/matmul.cpp), so results are equal to the bit at
// any number of threads and tokens.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backends/cpu/isa/isa.h"
#include "graph/backend.h"

namespace weft::cpu {

RowBlock row_block(const Tensor& weight);

/// Row blocks of any dtype that act as one matrix [rows, k].
class Weights {
 public:
  explicit Weights(std::span<const Tensor> blocks);

  int64_t rows() const { return begins_.back(); }
  int64_t k() const { return k_; }
  int64_t units() const { return (rows() + kRowUnit - 1) / kRowUnit; }
  /// out[t, n - first] = dot(x[t, :], row n) for n in [first, last). `scratch`: kMatmulScratch bytes.
  void multiply(const IsaKernels& isa, int64_t first, int64_t last, const float* x, int64_t x_stride, int64_t n_tokens,
                float* out, int64_t out_stride, std::byte* scratch) const;

 private:
  std::vector<RowBlock> blocks_;
  std::vector<int64_t> begins_;  // row where each block begins, then the number of rows
  int64_t k_ = 0;
};

/// A bias: one vector, or one per weight block; or absent.
class Bias {
 public:
  explicit Bias(std::span<const Tensor> vectors);

  explicit operator bool() const { return !vectors_.empty(); }
  /// y[t, n - first] += bias[n] for n in [first, last).
  void add(const IsaKernels& isa, int64_t first, int64_t last, int64_t n_tokens, float* y, int64_t y_stride) const;

 private:
  std::vector<const float*> vectors_;
  std::vector<int64_t> begins_;
};

/// The tiles of the units [first, last) of n_rows rows, for every token: f(token, n_tokens, first_row, last_row). One
/// token is one tile: its rows are contiguous in the output.
template <typename F>
void for_tiles(int64_t first, int64_t last, int64_t n_rows, int64_t n_tokens, F f) {
  const int64_t begin = first * kRowUnit, end = std::min(last * kRowUnit, n_rows);
  if (n_tokens == 1) return f(int64_t{0}, int64_t{1}, begin, end);
  for (int64_t t = 0; t < n_tokens; t += kTokenTile) {
    for (int64_t n = begin; n < end; n += kTileRows) {
      f(t, std::min(kTokenTile, n_tokens - t), n, std::min(n + kTileRows, end));
    }
  }
}

/// Why a kernel cannot multiply by these weights, if it cannot.
std::optional<std::string> refuses_weights(const Match& match, size_t slot);

}  // namespace weft::cpu
