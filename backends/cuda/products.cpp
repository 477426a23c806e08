#include "backends/cuda/products.h"

#include <algorithm>

#include "backends/cuda/blas.h"
#include "backends/cuda/device/expand.h"
#include "backends/cuda/device/skinny.h"
#include "backends/cuda/device/weights.h"
#include "backends/cuda/half_copies.h"
#include "backends/cuda/steps.h"
#include "ops/quant/f16.h"
#include "ops/quant/planes.h"

namespace weft::cuda {
namespace {

/// Row norms and activations hold a row in shared memory.
constexpr int64_t kLongestRow = 56 * 1024;
/// Up to here f16 weights are not worth activations in f16.
constexpr int64_t kFewest = 4;
/// The f16 copy of a weight is made a panel of rows at a time.
constexpr size_t kPanelBytes = size_t{256} << 20;

/// Whole runs of 16 bytes of sums, as cuBLASLt wants them.
int64_t panel_rows(int64_t k) { return std::max<int64_t>(256, static_cast<int64_t>(kPanelBytes) / (2 * k) / 64 * 64); }

/// The weight as f16, if it is that or has a copy.
const void* half_of(const Tensor& weight, Steps& steps) {
  if (weight.type.dtype == quant::f16) return weight.data;
  const auto& cuda = static_cast<CudaSteps&>(steps);
  return cuda.copies().get(weight, cuda.stream());
}

/// A product by cuBLASLt, and a bias that it does not take.
Launch half_launch(const HalfProduct& product, Extent tokens) {
  if (Launch whole = half_product(product)) return whole;
  HalfProduct bare = product;
  bare.bias = nullptr;
  return [=, launch = half_product(bare)](cudaStream_t stream) {
    launch(stream);
    launch_add_bias(product.c, product.bias, tokens, product.n, product.ldc, stream);
  };
}

}  // namespace

std::string kernel_name(std::string_view ops, Products products) {
  constexpr std::string_view kNames[] = {"f32", "gemv", "int8", "skinny", "half"};
  return fmt::format("{}.{}", ops, kNames[static_cast<size_t>(products)]);
}

Arithmetic arithmetic_of(Products products) {
  switch (products) {
    case Products::int8:
      return Arithmetic::int8;
    case Products::skinny:
    case Products::half:
      return Arithmetic::half;
    case Products::f32:
    case Products::gemv:
      break;
  }
  return Arithmetic::f32;
}

int64_t own_row(Products products) {
  switch (products) {
    case Products::int8:
      return kInt8OwnRow;
    case Products::skinny:
      return kHalfOwnRow;
    case Products::f32:
    case Products::gemv:
    case Products::half:
      break;
  }
  return kGemvOwnRow;
}

int launches_of(Products products) {
  switch (products) {
    case Products::gemv:
    case Products::int8:
      return 1;
    case Products::f32:
    case Products::skinny:
      return 2;
    case Products::half:
      break;
  }
  return 3;
}

std::function<const Layout*(const Match&, size_t, size_t, const TensorType&)> layout_of(
    Products products, std::initializer_list<size_t> slots, size_t of_node) {
  if (reads_f32(products)) return nullptr;
  return [slots = std::vector<size_t>(slots), of_node](const Match&, size_t node, size_t slot,
                                                       const TensorType& type) -> const Layout* {
    const bool multiplies = node == of_node && std::ranges::find(slots, slot) != slots.end();
    return multiplies ? quant::planes(type) : nullptr;
  };
}

std::optional<std::string> refuses_bias(const Match& match, size_t weight, size_t bias) {
  const auto vectors = match.types(bias), blocks = match.types(weight);
  if (vectors.size() <= 1) return std::nullopt;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (vectors.size() != blocks.size() || vectors[i].shape[0] != blocks[i].shape[0])
      return "the bias is cut unlike the weight";
  }
  return std::nullopt;
}

std::optional<std::string> refuses_weights(const Match& match, std::initializer_list<size_t> slots, Products products) {
  const int64_t tokens = match.last().out[0].shape[0];
  const int64_t most = products == Products::gemv     ? kFewTokens
                       : products == Products::int8   ? 1
                       : products == Products::skinny ? kSkinnyTokens
                                                      : tokens;
  if (tokens > most) return fmt::format("{} tokens are more than {}", tokens, most);
  if (products == Products::half) {
    if (std::string reason = why_no_blas(); !reason.empty()) return reason;
  }
  bool gemv = true;  // whether that could
  for (const size_t slot : slots) {
    const auto types = match.types(slot);
    if (types.size() > kMaxBlocks) return fmt::format("{} row blocks are more than {}", types.size(), kMaxBlocks);
    for (const TensorType& type : types) {
      const int64_t k = type.shape[1];
      if (!reads_type(type.dtype->id)) return fmt::format("it cannot read {}", type.dtype.name());
      if (k > kLongestRow) return fmt::format("rows of {} elements are longer than {}", k, kLongestRow);
      const bool reads = products == Products::gemv     ? gemv_reads(type.dtype->id, k)
                         : products == Products::int8   ? skinny_reads(type.dtype->id, k) && k <= kInt8OwnRow
                         : products == Products::skinny ? skinny_reads(type.dtype->id, k)
                                                        : true;
      if (!reads) return fmt::format("it cannot read rows of {} elements of {}", k, type.dtype.name());
      if (products == Products::half && k % 8 != 0)
        return fmt::format("rows of {} elements are not a multiple of 8", k);
      gemv &= gemv_reads(type.dtype->id, k);
    }
  }
  if (products == Products::half && gemv && tokens <= kFewest) return fmt::format("{} tokens are few", tokens);
  return std::nullopt;
}

size_t Activations::bytes(Products products, int64_t tokens, int64_t k) {
  switch (products) {
    case Products::skinny:
      return aligned(FragmentRows::bytes(tokens, k));
    case Products::half:
      return aligned(F16Rows::bytes(tokens, k));
    case Products::f32:
    case Products::gemv:
    case Products::int8:
      break;
  }
  return 0;
}

Activations Activations::make(Products products, std::byte* memory, NormArgs norm, Steps& steps) {
  const int64_t tokens = norm.tokens.capacity;
  const bool passes = norm.norm == Norm::none && norm.residual == nullptr && norm.bias == nullptr;
  if (passes && reads_f32(products)) return {.x = norm.x};
  if (is_few(products) && tokens == 1 && norm.d <= own_row(products)) return {.prologue = norm};
  Activations made{.x = norm.out};
  if (products == Products::skinny) norm.fragments = made.fragments = FragmentRows::at(memory, tokens, norm.d);
  if (products == Products::half) norm.f16 = made.f16 = F16Rows::at(memory, tokens, norm.d);
  emit(steps, [norm](cudaStream_t stream) { launch_norm(norm, stream); });
  return made;
}

size_t expansion_bytes(Products products, std::span<const TensorType> weights) {
  size_t bytes = 0;
  if (products != Products::half) return bytes;
  for (const TensorType& weight : weights) {
    if (weight.dtype == quant::f16) continue;
    const int64_t k = weight.shape[1], rows = std::min(weight.shape[0], panel_rows(k));
    bytes = std::max(bytes, static_cast<size_t>(rows * k) * 2);
  }
  return aligned(bytes);
}

Projection::Projection(Products products, std::span<const Tensor> weights, std::span<const Tensor> bias)
    : products_(products), weights_(weights.begin(), weights.end()) {
  for (const Tensor& weight : weights_) {
    rows_ += weight.dim(0);
    k_ = weight.dim(1);
  }
  if (bias.size() == 1) whole_bias_ = bias[0].as<float>();
  int64_t first = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (bias.empty()) biases_.push_back(nullptr);
    else if (bias.size() == 1) biases_.push_back(whole_bias_ + first);
    else biases_.push_back(bias[i].as<float>());
    first += weights_[i].dim(0);
  }
}

std::vector<GemvArgs> Projection::launches(const Activations& x, Extent tokens, const Epilogue& epilogue, float* y,
                                           const Scratch& scratch) const {
  std::vector<GemvArgs> all;
  for (size_t i = 0; i < weights_.size();) {
    size_t end = i + 1;
    while (end < weights_.size() && weights_[end].type.dtype == weights_[i].type.dtype) ++end;
    GemvArgs& args = all.emplace_back(GemvArgs{.x = x.x,
                                               .fragments = x.fragments,
                                               .prologue = x.prologue,
                                               .largest = x.largest,
                                               .tokens = tokens,
                                               .gated = epilogue.gated,
                                               .act = epilogue.act,
                                               .alpha = epilogue.alpha,
                                               .limit = epilogue.limit,
                                               .residual = epilogue.residual,
                                               .adds = epilogue.adds,
                                               .y = y,
                                               .y_stride = epilogue.gated ? rows_ / 2 : rows_,
                                               .made = epilogue.made,
                                               .partial = scratch.partial,
                                               .arrivals = scratch.arrivals});
    args.weights.k = k_;
    args.weights.type = weights_[i].type.dtype->id;
    int64_t first = 0;
    for (size_t b = 0; b < i; ++b) first += weights_[b].dim(0);
    args.y += first;
    const auto move = [first](const float*& term) { term = term != nullptr ? term + first : nullptr; };
    for (const float*& term : args.residual.shared) move(term);
    for (const float*& term : args.residual.bias) move(term);
    move(args.residual.plain);
    for (; i < end; ++i) {
      const int n = args.weights.n_blocks++;
      args.weights.block[n] = weights_[i].data;
      args.weights.bias[n] = biases_[i];
      args.weights.has_bias |= biases_[i] != nullptr;
      args.weights.begin[n + 1] = args.weights.begin[n] + weights_[i].dim(0);
    }
  }
  return all;
}

bool Projection::is_staged(const Activations& x, Extent tokens, const Epilogue& epilogue) const {
  if (products_ != Products::skinny || x.fragments.x == nullptr) return false;
  const auto all = launches(x, tokens, epilogue, nullptr, {});
  if (epilogue.made.x != nullptr && all.size() != 1) return false;  // its columns are those of one launch
  return std::ranges::all_of(all, skinny_stages);
}

void Projection::multiply(const Activations& x, Extent tokens, const Epilogue& epilogue, float* y, std::byte* workspace,
                          Steps& steps) const {
  if (is_few(products_)) {
    // A gated pair needs both halves in one launch.
    for (const GemvArgs& args : launches(x, tokens, epilogue, y, static_cast<CudaSteps&>(steps).scratch())) {
      if (products_ == Products::skinny) emit(steps, [args](cudaStream_t stream) { launch_skinny(args, stream); });
      else emit(steps, [args](cudaStream_t stream) { launch_gemv(args, stream); });
    }
    return;
  }
  int64_t first = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    const Tensor& weight = weights_[i];
    const int64_t n = weight.dim(0), k = k_, rows = rows_;
    if (products_ == Products::f32) {
      emit(steps, [=](cudaStream_t stream) {
        launch_matmul(weight.type.dtype->id, weight.data, x.x, y + first, tokens, n, k, rows, stream);
      });
      first += n;
      continue;
    }
    const float* bias = epilogue.leaves_bias ? nullptr : biases_[i];
    const auto part = [&](const void* half, int64_t begin, int64_t end) {
      return half_launch({.m = tokens.capacity,
                          .n = end - begin,
                          .k = k,
                          .ldc = rows,
                          .a = x.f16.x,
                          .b = half,
                          .c = y + first + begin,
                          .bias = bias != nullptr ? bias + begin : nullptr,
                          .adds = epilogue.onto},
                         tokens);
    };
    if (const void* half = half_of(weight, steps)) {
      emit(steps, part(half, 0, n));
    } else {
      for (int64_t begin = 0; begin < n; begin += panel_rows(k)) {
        const int64_t end = std::min(n, begin + panel_rows(k));
        auto* panel = reinterpret_cast<uint16_t*>(workspace);
        emit(steps, [=, product = part(panel, begin, end)](cudaStream_t stream) {
          const uint32_t type = weight.type.dtype->id;
          if (!launch_expand(type, weight.data, n, k, begin, end, panel, stream)) {
            launch_decode_half(type, weight.data + static_cast<size_t>(begin) * weight.type.row_bytes(), panel,
                               (end - begin) * k, stream);
          }
          product(stream);
        });
      }
    }
    first += n;
  }
}

void Projection::finish(const Activations& x, Extent tokens, float* y, Steps& steps) const {
  int64_t first = 0;
  const bool whole = whole_bias_ != nullptr || biases_.empty() || biases_[0] == nullptr;
  for (size_t i = 0; i < weights_.size(); ++i) {
    const int64_t n = whole ? rows_ : weights_[i].dim(0);
    const float* bias = biases_[i];
    if (products_ == Products::half) {
      emit(steps, [=, unscale = x.f16.unscale, rows = rows_](cudaStream_t stream) {
        launch_rescale(y + first, unscale, {.bias = {bias}}, tokens, n, rows, stream);
      });
    } else if (bias != nullptr) {
      emit(steps,
           [=, rows = rows_](cudaStream_t stream) { launch_add_bias(y + first, bias, tokens, n, rows, stream); });
    }
    first += n;
    if (whole) break;
  }
}

}  // namespace weft::cuda
