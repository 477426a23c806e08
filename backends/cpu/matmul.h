// Weights as lists of row blocks, multiplied by ranges of rows: what every projection is made of.
//
// Tasks are units of kRowUnit rows and a thread's share of them is contiguous. How rows and tokens are cut changes no
// output: each element is the same arithmetic whatever its tile (isa/matmul.cpp), so results are equal to the bit at
// any number of threads and tokens.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backends/cpu/isa/isa.h"
#include "graph/backend.h"

namespace weft::cpu {

RowBlock row_block(const Tensor& weight);

/// How a kernel multiplies by its weights: in f32 as they are stored; those that have a packed form packed, with
/// activations in 8 bits; or all of them by tile products, with activations in bf16.
enum class Products : uint8_t { f32, int8, bf16 };

/// Up to this many tokens each thread normalizes and quantizes for itself; beyond, the rows are shared out and waited
/// for. At 8 tokens of 4096 that is 128 KiB of scratch and about 5 µs a thread, a few barriers' worth.
constexpr int64_t kRecomputeTokens = 8;

/// From so many tokens on a plan multiplies by tiles: unpacking a weight costs as much as some 100 tokens' products.
constexpr int64_t kTileProductsTokens = 32;
/// Elements from one row of bf16 activations to the next: rows a power of two apart would share cache sets.
constexpr int64_t bf16_stride(int64_t k) { return (k + 31) / 32 * 32 + 32; }

/// Activations [T, k] as weights are multiplied with them: in f32; in 8 bits where a packed weight wants them; in bf16
/// for tile products.
struct Activations {
  const float* x;
  int64_t stride;                             // elements
  const QuantizedBlock* quantized = nullptr;  // rows of k / 32 blocks
  const uint16_t* bf16 = nullptr;             // rows of bf16_stride(k)

  Activations from(int64_t token, int64_t k) const {
    return {x + token * stride, stride, quantized ? quantized + token * (k / kQuantizedElems) : nullptr,
            bf16 ? bf16 + token * bf16_stride(k) : nullptr};
  }
};

/// Row blocks of any dtype that act as one matrix [rows, k].
class Weights {
 public:
  explicit Weights(std::span<const Tensor> blocks);

  int64_t rows() const { return begins_.back(); }
  int64_t k() const { return k_; }
  int64_t units() const { return (rows() + kRowUnit - 1) / kRowUnit; }
  /// Whether any block is packed: then the activations must be quantized too.
  bool packed() const { return std::ranges::find(packed_, true) != packed_.end(); }
  /// out[t, n - first] = dot(x[t, :], row n) for n in [first, last). `scratch`: Tiling's bytes.
  void multiply(const IsaKernels& isa, int64_t first, int64_t last, const Activations& x, int64_t n_tokens, float* out,
                int64_t out_stride, std::byte* scratch) const;

 private:
  std::vector<RowBlock> blocks_;
  std::vector<bool> packed_;
  std::vector<int64_t> begins_;  // row where each block begins, then the number of rows
  int64_t k_ = 0;
};

/// Makes the copy of a projection's activations in 8 bits or bf16, if its products want one. Few tokens: each thread
/// makes its own in scratch. Many: a phase before, shared out by tokens, writes the workspace.
class Quantizer {
 public:
  Quantizer(const IsaKernels& isa, const Weights& weights, Products products, int64_t capacity, std::byte* workspace);

  static size_t workspace_bytes(Products products, int64_t capacity, int64_t k);
  size_t scratch_bytes() const { return on_ && !shared() ? row_bytes() * static_cast<size_t>(capacity_) : 0; }
  /// Whether that phase is needed: rows(x, stride, first token, last token).
  bool shared() const { return on_ && capacity_ > kRecomputeTokens; }
  void rows(const float* x, int64_t stride, int64_t first, int64_t last) const;
  /// Tokens [0, n) of x for this thread. `scratch`: scratch_bytes(), which holds them already unless `fresh`.
  Activations operator()(const float* x, int64_t stride, int64_t n, std::byte* scratch, bool fresh) const;

 private:
  int64_t blocks() const { return k_ / kQuantizedElems; }
  size_t row_bytes() const { return static_cast<size_t>(blocks()) * sizeof(QuantizedBlock); }

  const IsaKernels* isa_;
  Products products_;
  bool on_;
  int64_t capacity_, k_;
  std::byte* workspace_;
};

/// What is multiplied before its epilogue, and the scratch that takes.
struct Tiling {
  int64_t tokens, rows;
  size_t scratch;
};
constexpr Tiling tiling(Products products) {
  if (products == Products::bf16) return {kPanelTokens, kPanelRows, kPanelScratch};
  return {kTokenTile, kTileRows, kMatmulScratch};
}

/// Units that are one grain of a phase: the tiles one token's products read at once (isa/matmul_packed.cpp); of many
/// tokens, one tile of decoded rows, so that threads get as many of a small matrix, or half a panel.
constexpr int64_t unit_grain(int64_t capacity, Products products) {
  if (products == Products::bf16) return kPanelRows / 2 / kRowUnit;
  return capacity <= kRecomputeTokens ? 4 : kTileRows / kRowUnit;
}

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
void for_tiles(Products products, int64_t first, int64_t last, int64_t n_rows, int64_t n_tokens, F f) {
  const int64_t begin = first * kRowUnit, end = std::min(last * kRowUnit, n_rows);
  const Tiling tile = tiling(products);
  if (n_tokens == 1 && products != Products::bf16) return f(int64_t{0}, int64_t{1}, begin, end);
  for (int64_t t = 0; t < n_tokens; t += tile.tokens) {
    for (int64_t n = begin; n < end; n += tile.rows) {
      f(t, std::min(tile.tokens, n_tokens - t), n, std::min(n + tile.rows, end));
    }
  }
}

/// Why a kernel cannot multiply by the weights of these slots, if it cannot.
std::optional<std::string> refuses_weights(const IsaKernels& isa, const Match& match,
                                           std::initializer_list<size_t> slots, Products products);

// What the kernels of a kind of products have in common: "linear.int8.avx512", tolerance, the layout of every weight.
std::string kernel_name(std::string_view ops, const IsaKernels& isa, Products products);
Arithmetic arithmetic_of(Products products);
std::function<const Layout*(const Match&, size_t, size_t, const TensorType&)> layout_of(Products products);

}  // namespace weft::cpu
