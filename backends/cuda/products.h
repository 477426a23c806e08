// Activations times weights given as row blocks: what every projection is made of, in five ways.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backends/cuda/device/gemv.h"
#include "graph/backend.h"

namespace weft::cuda {

struct Scratch;

enum class Products : uint8_t {
  f32,     // plain kernels, weights as they are stored: any number of tokens, any type
  gemv,    // few tokens, f32 activations, f32, f16 or bf16 weights
  int8,    // one token, 8-bit activations, quantized weights
  skinny,  // few tokens, f16 activations, quantized weights unpacked to f16 in registers
  half,    // many tokens, f16 activations and weights, by cuBLASLt
};

/// The longest row of one token's activations that a product makes itself.
int64_t own_row(Products products);

/// The most tokens of gemv.
constexpr int64_t kFewTokens = 16;

inline bool is_few(Products products) { return products != Products::f32 && products != Products::half; }
inline bool reads_f32(Products products) { return products == Products::f32 || products == Products::gemv; }

std::string kernel_name(std::string_view ops, Products products);
Arithmetic arithmetic_of(Products products);
/// Of a projection: the form of its activations, the product, what becomes of that.
int launches_of(Products products);
/// The layouts of the weights in these slots of a node of the match.
std::function<const Layout*(const Match&, size_t, size_t, const TensorType&)> layout_of(
    Products products, std::initializer_list<size_t> slots, size_t of_node = 0);
/// Why a kernel cannot multiply by the weights of these slots of the first node, if it cannot.
std::optional<std::string> refuses_weights(const Match& match, std::initializer_list<size_t> slots, Products products);

/// Why the bias of a weight is not one vector, or one for each of its blocks.
std::optional<std::string> refuses_bias(const Match& match, size_t weight, size_t bias);

/// Activations [T, k] in the form a product takes.
struct Activations {
  const float* x = nullptr;
  FragmentRows fragments = {};
  F16Rows f16 = {};
  NormArgs prologue = {};          // how the product makes them itself, if it does
  const float* largest = nullptr;  // GemvArgs::largest, of fragments that the kernel before made of x

  /// Bytes of the form, a multiple of 256.
  static size_t bytes(Products products, int64_t tokens, int64_t k);
  /// Rows as `norm` makes them, to its `out` where the product takes f32. The form, at `memory`, is written by a kernel
  /// of its own, unless the product can begin with it.
  static Activations make(Products products, std::byte* memory, NormArgs norm, Steps& steps);
};

/// What is done to the rows of a product as they are written. The products of few tokens do it in the same kernel;
/// those of many know the last two only.
struct Epilogue {
  bool gated = false;
  Act act = Act::none;
  float alpha = 0, limit = 0;
  Residual residual = {};
  bool adds = false;
  FragmentRows made = {};    // GemvArgs::made
  bool onto = false;         // half: y is added to
  bool leaves_bias = false;  // half: what comes after adds the bias
};

/// A weight as a list of row blocks, and its bias.
class Projection {
 public:
  /// `bias` is absent, one vector, or one for each block.
  Projection(Products products, std::span<const Tensor> weights, std::span<const Tensor> bias);

  int64_t rows() const { return rows_; }
  int64_t k() const { return k_; }
  /// The bias as one vector, or null; only of a whole one.
  const float* bias() const { return whole_bias_; }

  /// y [T, rows] (half of them, gated) = epilogue(x W^T + bias). f32: y is x W^T alone, and the caller does the rest.
  /// half: x W^T has still to be multiplied by f16.unscale.
  void multiply(const Activations& x, Extent tokens, const Epilogue& epilogue, float* y, std::byte* workspace,
                Steps& steps) const;
  /// Whether multiply() can write `made` and read `largest`.
  bool is_staged(const Activations& x, Extent tokens, const Epilogue& epilogue) const;
  /// For f32 and half, without an epilogue: what multiply() has left to do.
  void finish(const Activations& x, Extent tokens, float* y, Steps& steps) const;

 private:
  /// Of few tokens, one for neighbours of a type.
  std::vector<GemvArgs> launches(const Activations& x, Extent tokens, const Epilogue& epilogue, float* y,
                                 const Scratch& scratch) const;

  Products products_;
  std::vector<Tensor> weights_;
  std::vector<const float*> biases_;  // of each block
  const float* whole_bias_ = nullptr;
  int64_t rows_ = 0, k_ = 0;
};

/// Bytes of the f16 copy a projection by `half` needs; 0 for the others.
size_t expansion_bytes(Products products, std::span<const TensorType> weights);

inline size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace weft::cuda
