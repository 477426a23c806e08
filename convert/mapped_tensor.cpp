#include "convert/mapped_tensor.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace weft {

void MappedTensor::copy_rows(int64_t first, int64_t last, std::byte* to) const {
  const size_t row_bytes = type.row_bytes();
  if (!transposed) {
    const size_t bytes = static_cast<size_t>(last - first) * row_bytes;
    if (bytes > 0) std::memcpy(to, data + static_cast<size_t>(first) * row_bytes, bytes);
    return;
  }
  const int64_t rows = type.shape[0], columns = type.shape[1];
  const size_t size = type.dtype->block_bytes;
  constexpr int64_t kTile = 32;  // both sides of a tile stay in cache
  for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
    for (int64_t r0 = first; r0 < last; r0 += kTile) {
      for (int64_t r = r0; r < std::min(last, r0 + kTile); ++r) {
        for (int64_t c = c0; c < std::min(columns, c0 + kTile); ++c) {
          std::memcpy(to + static_cast<size_t>((r - first) * columns + c) * size,
                      data + static_cast<size_t>(c * rows + r) * size, size);
        }
      }
    }
  }
}

MappedTensor MappedTensor::turned() const {
  MappedTensor other = *this;
  other.type.shape = {type.shape[1], type.shape[0]};
  other.transposed = !transposed;
  return other;
}

LoadedTensor MappedTensor::rows(int64_t first, int64_t last) const {
  const TensorType part{type.dtype, {last - first, type.shape.columns()}};
  const size_t bytes = part.bytes();
  const std::byte* begin = data + static_cast<size_t>(first) * type.row_bytes();
  if (transposed) {
    auto [copy, to] = allocate_tensor(part);
    copy_rows(first, last, to);
    drop_pages();
    return copy;
  }
  const size_t item = type.dtype->block_elems == 1 ? type.dtype->block_bytes : 1;
  if (reinterpret_cast<uintptr_t>(begin) % item != 0) {
    auto [copy, to] = allocate_tensor(part);
    copy_rows(first, last, to);
    file->drop_pages({begin, bytes});
    return copy;
  }
  // Tensor has no read-only form; the mapping itself is, so a stray write is a fault and not a changed file.
  const auto drop = [mapped = file, bytes](const std::byte* at) { mapped->drop_pages({at, bytes}); };
  return LoadedTensor({part, const_cast<std::byte*>(begin)}, std::shared_ptr<const std::byte>(begin, drop));
}

}  // namespace weft
