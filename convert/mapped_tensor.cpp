#include "convert/mapped_tensor.h"

#include <cstdint>
#include <cstring>

namespace weft {

LoadedTensor MappedTensor::rows(int64_t first, int64_t last) const {
  const TensorType part{type.dtype, {last - first, type.shape.columns()}};
  const size_t bytes = part.bytes();
  const std::byte* begin = data + static_cast<size_t>(first) * type.row_bytes();
  const size_t item = type.dtype->block_elems == 1 ? type.dtype->block_bytes : 1;
  if (reinterpret_cast<uintptr_t>(begin) % item != 0) {
    auto [copy, to] = allocate_tensor(part);
    if (bytes > 0) std::memcpy(to, begin, bytes);
    file->drop_pages({begin, bytes});
    return copy;
  }
  // Tensor has no read-only form; the mapping itself is, so a stray write is a fault and not a changed file.
  const auto drop = [mapped = file, bytes](const std::byte* at) { mapped->drop_pages({at, bytes}); };
  return LoadedTensor({part, const_cast<std::byte*>(begin)}, std::shared_ptr<const std::byte>(begin, drop));
}

}  // namespace weft
