#include "backends/cpu/matmul.h"

#include "ops/quant/all.h"

namespace weft::cpu {
namespace {

Format format_of(DType dtype) {
  if (dtype == quant::f32) return Format::f32;
  if (dtype == quant::f16) return Format::f16;
  if (dtype == quant::bf16) return Format::bf16;
  if (dtype == quant::q8_0) return Format::q8_0;
  if (dtype == quant::q4_0) return Format::q4_0;
  return Format::other;
}

/// f(piece, first, last) for the pieces of [first, last) that lie in one interval of `begins` each.
template <typename F>
void for_pieces(const std::vector<int64_t>& begins, int64_t first, int64_t last, F f) {
  auto next = std::upper_bound(begins.begin(), begins.end(), first);
  for (; first < last; ++next) {
    const int64_t end = std::min(*next, last);
    if (first < end) f(static_cast<size_t>(next - begins.begin() - 1), first, end);
    first = std::max(first, end);
  }
}

}  // namespace

RowBlock row_block(const Tensor& weight) {
  const TypeTraits& type = *weight.type.dtype;
  return {.data = weight.data,
          .row_bytes = weight.type.row_bytes(),
          .format = format_of(weight.type.dtype),
          .block_elems = type.block_elems,
          .block_bytes = type.block_bytes,
          .decode = type.decode};
}

Weights::Weights(std::span<const Tensor> blocks) : begins_{0} {
  for (const Tensor& block : blocks) {
    blocks_.push_back(row_block(block));
    begins_.push_back(begins_.back() + block.type.shape.rows());
    k_ = block.type.shape.columns();
  }
}

void Weights::multiply(const IsaKernels& isa, int64_t first, int64_t last, const float* x, int64_t x_stride,
                       int64_t n_tokens, float* out, int64_t out_stride, std::byte* scratch) const {
  for_pieces(begins_, first, last, [&](size_t i, int64_t begin, int64_t end) {
    RowBlock rows = blocks_[i];
    rows.data += static_cast<size_t>(begin - begins_[i]) * rows.row_bytes;
    isa.matmul({.x = x,
                .x_stride = x_stride,
                .n_tokens = n_tokens,
                .k = k_,
                .w = rows,
                .n_rows = end - begin,
                .out = out + (begin - first),
                .out_stride = out_stride,
                .scratch = scratch});
  });
}

Bias::Bias(std::span<const Tensor> vectors) : begins_{0} {
  for (const Tensor& vector : vectors) {
    vectors_.push_back(vector.as<float>());
    begins_.push_back(begins_.back() + vector.type.elements());
  }
}

void Bias::add(const IsaKernels& isa, int64_t first, int64_t last, int64_t n_tokens, float* y, int64_t y_stride) const {
  if (vectors_.empty()) return;
  for_pieces(begins_, first, last, [&](size_t i, int64_t begin, int64_t end) {
    for (int64_t t = 0; t < n_tokens; ++t) {
      isa.add(y + t * y_stride + (begin - first), vectors_[i] + (begin - begins_[i]), end - begin);
    }
  });
}

std::optional<std::string> refuses_weights(const Match& match, size_t slot) {
  for (const TensorType& block : match.types(slot)) {
    if (kChunk % block.dtype->block_elems != 0) {
      return fmt::format("blocks of {} elements ({}) do not divide a tile of {} columns", block.dtype->block_elems,
                         block.dtype.name(), kChunk);
    }
  }
  return {};
}

}  // namespace weft::cpu
