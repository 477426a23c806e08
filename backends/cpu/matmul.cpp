#include "backends/cpu/matmul.h"

#include "ops/quant/all.h"
#include "ops/quant/rows16.h"

namespace weft::cpu {
namespace {

struct Known {
  const TypeTraits* type;
  Format format;
};
constexpr Known kKnown[] = {
    {&quant::f32, Format::f32},       {&quant::f16, Format::f16},     {&quant::bf16, Format::bf16},
    {&quant::q8_0, Format::q8_0},     {&quant::q4_0, Format::q4_0},   {&quant::q4_1, Format::q4_1},
    {&quant::q5_0, Format::q5_0},     {&quant::q5_1, Format::q5_1},   {&quant::q4_K, Format::q4_K},
    {&quant::q5_K, Format::q5_K},     {&quant::q6_K, Format::q6_K},   {&quant::iq4_nl, Format::iq4_nl},
    {&quant::iq4_xs, Format::iq4_xs}, {&quant::mxfp4, Format::mxfp4},
};

Format format_of(DType dtype) {
  for (const Known& known : kKnown) {
    if (dtype == *known.type) return known.format;
  }
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
    packed_.push_back(block.layout != nullptr);
    begins_.push_back(begins_.back() + block.type.shape.rows());
    k_ = block.type.shape.columns();
  }
}

void Weights::multiply(const IsaKernels& isa, int64_t first, int64_t last, const Activations& x, int64_t n_tokens,
                       float* out, int64_t out_stride, std::byte* scratch) const {
  for_pieces(begins_, first, last, [&](size_t i, int64_t begin, int64_t end) {
    RowBlock rows = blocks_[i];
    if (x.bf16) {
      isa.matmul_tiles({.x = x.bf16,
                        .x_stride = bf16_stride(k_),
                        .n_tokens = n_tokens,
                        .k = k_,
                        .w = rows,
                        .packed = packed_[i],
                        .first_row = begin - begins_[i],
                        .n_rows = end - begin,
                        .out = out + (begin - first),
                        .out_stride = out_stride,
                        .scratch = scratch});
      return;
    }
    if (packed_[i]) {
      isa.matmul_packed({.x = x.quantized,
                         .x_stride = k_ / kQuantizedElems,
                         .n_tokens = n_tokens,
                         .k = k_,
                         .format = rows.format,
                         .w = rows.data,
                         .first_row = begin - begins_[i],
                         .n_rows = end - begin,
                         .out = out + (begin - first),
                         .out_stride = out_stride});
      return;
    }
    rows.data += static_cast<size_t>(begin - begins_[i]) * rows.row_bytes;
    isa.matmul({.x = x.x,
                .x_stride = x.stride,
                .n_tokens = n_tokens,
                .k = k_,
                .w = rows,
                .n_rows = end - begin,
                .out = out + (begin - first),
                .out_stride = out_stride,
                .scratch = scratch});
  });
}

Quantizer::Quantizer(const IsaKernels& isa, const Weights& weights, Products products, int64_t capacity,
                     std::byte* workspace)
    : isa_(&isa),
      products_(products),
      on_(products == Products::bf16 || weights.packed()),
      capacity_(capacity),
      k_(weights.k()),
      workspace_(workspace) {}

size_t Quantizer::workspace_bytes(Products products, int64_t capacity, int64_t k) {
  if (products == Products::f32 || capacity <= kRecomputeTokens) return 0;
  if (products == Products::bf16) {  // whole tiles are read
    return static_cast<size_t>((capacity + 31) * bf16_stride(k)) * sizeof(uint16_t) / 64 * 64 + 64;
  }
  return static_cast<size_t>(capacity * (k / kQuantizedElems)) * sizeof(QuantizedBlock);
}

void Quantizer::rows(const float* x, int64_t stride, int64_t first, int64_t last) const {
  for (int64_t t = first; t < last; ++t) {
    if (products_ == Products::bf16) {
      isa_->to_bf16(x + t * stride, k_, reinterpret_cast<uint16_t*>(workspace_) + t * bf16_stride(k_));
    } else {
      isa_->quantize(x + t * stride, k_, reinterpret_cast<QuantizedBlock*>(workspace_) + t * blocks());
    }
  }
}

Activations Quantizer::operator()(const float* x, int64_t stride, int64_t n, std::byte* scratch, bool fresh) const {
  if (!on_) return {x, stride};
  if (products_ == Products::bf16) return {x, stride, nullptr, reinterpret_cast<const uint16_t*>(workspace_)};
  if (shared()) return {x, stride, reinterpret_cast<const QuantizedBlock*>(workspace_)};
  auto* own = reinterpret_cast<QuantizedBlock*>(scratch);
  for (int64_t t = 0; fresh && t < n; ++t) isa_->quantize(x + t * stride, k_, own + t * blocks());
  return {x, stride, own};
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

std::optional<std::string> refuses_weights(const IsaKernels& isa, const Match& match,
                                           std::initializer_list<size_t> slots, Products products) {
  if (const int64_t tokens = match.node().out[0].shape[0]; products == Products::bf16 && tokens < kTileProductsTokens) {
    return fmt::format("a plan of {} tokens is too small for tile products", tokens);
  }
  bool any_packed = false;
  for (const size_t slot : slots) {
    for (const TensorType& block : match.types(slot)) {
      if (products != Products::f32 && quant::rows16(block) != nullptr) {
        any_packed = true;
      } else if (kChunk % block.dtype->block_elems != 0) {
        return fmt::format("blocks of {} elements ({}) do not divide a tile of {} columns", block.dtype->block_elems,
                           block.dtype.name(), kChunk);
      }
    }
  }
  if (products == Products::bf16 && any_packed && !isa.tiles_beat_int8) return "8-bit products are faster";
  if (products == Products::int8 && !any_packed) return "none of its weights has a packed form";
  return {};
}

std::string kernel_name(std::string_view ops, const IsaKernels& isa, Products products) {
  constexpr std::string_view kKinds[] = {"", "int8.", "bf16."};
  return fmt::format("{}.{}{}", ops, kKinds[static_cast<size_t>(products)], isa.name);
}

Arithmetic arithmetic_of(Products products) {
  constexpr Arithmetic kKinds[] = {Arithmetic::f32, Arithmetic::int8, Arithmetic::half};
  return kKinds[static_cast<size_t>(products)];
}

std::function<const Layout*(const Match&, size_t, size_t, const TensorType&)> layout_of(Products products) {
  if (products == Products::f32) return nullptr;
  return [](const Match&, size_t, size_t, const TensorType& weight) { return quant::rows16(weight); };
}

}  // namespace weft::cpu
