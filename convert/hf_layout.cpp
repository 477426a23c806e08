#include "convert/hf_layout.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "ops/quant/f32.h"
#include "ops/quant/mxfp4.h"

namespace weft {
namespace {

/// Of any alignment: only for what copies bytes.
Tensor view(const MappedTensor& tensor) { return {tensor.type, const_cast<std::byte*>(tensor.data)}; }

}  // namespace

Shape hf_part_shape(const TensorSpec& spec) {
  if (spec.hf.size() > 1) return Shape(spec.shape.dims().subspan(1));
  if (spec.transform == Transform::transpose) return {spec.shape[1], spec.shape[0]};
  if (spec.transform == Transform::every_nth) return {spec.shape[0], spec.shape[1] * spec.parts};
  if (spec.transform == Transform::expert_rows) return {spec.shape[0], spec.shape[1] * spec.parts, spec.shape[2]};
  if (spec.transform == Transform::expert_columns) return {spec.shape[0], spec.shape[2], spec.shape[1] * spec.parts};
  return spec.shape;
}

HfLayout::HfLayout(const TensorSpec& spec, std::vector<MappedTensor> parts)
    : type_{spec.transform == Transform::add_one ? DType(quant::f32) : parts.front().type.dtype, spec.shape},
      transform_(spec.transform),
      heads_(spec.heads),
      kv_heads_(spec.kv_heads),
      take_{spec.part, spec.parts},
      parts_(std::move(parts)) {
  const int64_t rows = spec.shape[0];
  if (transform_ == Transform::transpose) {
    parts_.front() = parts_.front().turned();
    transform_ = Transform::none;
  } else if (transform_ == Transform::rotary_pairs) {
    require(rows % (2 * heads_) == 0, "{} rows are no pairs of {} heads", rows, heads_);
  } else if (transform_ == Transform::split_qkv) {
    require(rows % (heads_ + 2 * kv_heads_) == 0, "{} rows are no q, k, v of {} and {} heads", rows, heads_, kv_heads_);
  } else if (transform_ == Transform::add_one) {
    const DType stored = parts_.front().type.dtype;
    require(stored->decode != nullptr, "1 cannot be added to {}", stored.name());
  }
}

HfLayout::HfLayout(const TensorSpec& spec, PackedTensor blocks, PackedTensor scales)
    : type_{quant::mxfp4, spec.shape},
      transform_(spec.transform),
      heads_(0),
      kv_heads_(0),
      take_{spec.part, spec.parts},
      packed_{std::move(blocks), std::move(scales)} {
  const int64_t columns = spec.shape[2];
  const std::vector<int64_t> scales_shape{spec.shape[0], spec.shape[1] * spec.parts, columns / 32};
  std::vector<int64_t> blocks_shape = scales_shape;
  blocks_shape.push_back(16);
  require(columns % 32 == 0 && packed_[0].dtype == "U8" && packed_[1].dtype == "U8" &&
              packed_[0].shape == blocks_shape && packed_[1].shape == scales_shape,
          "the blocks and scales of {} are not U8 [{}] and [{}]", spec.hf.front(), fmt::join(blocks_shape, ", "),
          fmt::join(scales_shape, ", "));
}

/// Where in the file the tensor's index `row` of its first dimension stands.
int64_t HfLayout::source_row(int64_t row) const {
  const int64_t rows = type_.shape[0];
  if (transform_ == Transform::rotary_pairs) {  // neighbours (2i, 2i + 1) from (i, i + d / 2)
    const int64_t d = rows / heads_, head = row / d, at = row % d;
    return head * d + at % 2 * (d / 2) + at / 2;
  }
  if (transform_ == Transform::split_qkv) {  // [q heads | k heads | v heads] from [kv head][its q heads, k, v]
    const int64_t d = rows / (heads_ + 2 * kv_heads_), head = row / d, group = heads_ / kv_heads_;
    const bool q = head < heads_;
    const int64_t kv_head = q ? head / group : (head - heads_) % kv_heads_;
    const int64_t part = q ? head % group : group + (head - heads_) / kv_heads_;
    return (kv_head * (group + 2) + part) * d + row % d;
  }
  return row;
}

LoadedTensor HfLayout::rows(int64_t first, int64_t last) const {
  if (!packed_.empty()) {
    auto [made, to] = allocate_tensor({type_.dtype, {last - first, type_.shape.columns()}});
    mxfp4_expert_rows(packed_[0].bytes, packed_[1].bytes, type_.shape.columns() / 32, take_, first, last, to);
    for (const PackedTensor& packed : packed_) {
      const size_t row_bytes = packed.bytes.size() / static_cast<size_t>(std::max<int64_t>(1, type_.shape.rows()));
      packed.file->drop_pages(
          packed.bytes.subspan(static_cast<size_t>(first) * row_bytes, static_cast<size_t>(last - first) * row_bytes));
    }
    return made;
  }
  const int64_t part_rows = type_.shape.rows() / static_cast<int64_t>(parts_.size());
  const bool in_order = transform_ == Transform::none;
  if (in_order && (first == last || first / part_rows == (last - 1) / part_rows)) {  // within one part
    const int64_t part = part_rows == 0 || first == last ? 0 : first / part_rows;
    return parts_[static_cast<size_t>(part)].rows(first - part * part_rows, last - part * part_rows);
  }
  auto [made, to] = allocate_tensor({type_.dtype, {last - first, type_.shape.columns()}});
  if (made->type.bytes() == 0) return made;
  if (transform_ == Transform::expert_columns) {
    expert_columns(view(parts_[0]), take_, first, last, to);
  } else if (transform_ == Transform::every_nth) {
    const LoadedTensor rows = parts_[0].rows(first, last);
    every_nth(*rows, take_, to);
  } else if (transform_ == Transform::add_one) {
    const LoadedTensor rows = parts_[0].rows(first, last);
    const std::span values(reinterpret_cast<float*>(to), static_cast<size_t>(made->type.elements()));
    rows->type.dtype->decode(rows->data, values.data(), values.size());
    for (float& v : values) v += 1;
  } else if (transform_ == Transform::expert_rows) {
    const int64_t out = type_.shape[1];
    for (int64_t at = first; at < last;) {
      const int64_t expert = at / out, end = std::min(last, (expert + 1) * out);
      const int64_t from = (expert * (take_.parts - 1) + take_.part) * out + at;
      const LoadedTensor rows = parts_[0].rows(from, from + (end - at));
      std::memcpy(to, rows->data, rows->type.bytes());
      to += rows->type.bytes();
      at = end;
    }
  } else if (in_order) {
    for (int64_t at = first; at < last;) {
      const int64_t part = at / part_rows, end = std::min(last, (part + 1) * part_rows);
      const LoadedTensor rows = parts_[static_cast<size_t>(part)].rows(at - part * part_rows, end - part * part_rows);
      std::memcpy(to, rows->data, rows->type.bytes());
      to += rows->type.bytes();
      at = end;
    }
  } else {
    // Of a vector the elements are reordered: then [first, last) is [0, 1), all of it.
    const bool vector = type_.shape.rank() == 1;
    const int64_t begin = vector ? 0 : first, end = vector ? type_.shape[0] : last;
    const size_t bytes = type_.bytes() / static_cast<size_t>(type_.shape[0]);
    for (int64_t row = begin; row < end; ++row, to += bytes) {
      const int64_t from = source_row(row);
      if (vector) std::memcpy(to, parts_[0].data + static_cast<size_t>(from) * bytes, bytes);
      else parts_[0].copy_rows(from, from + 1, to);
    }
  }
  if (transform_ != Transform::none && transform_ != Transform::expert_rows) parts_[0].drop_pages();
  return made;
}

}  // namespace weft
