#include "ops/quant/as_stored.h"

#include <cstring>

namespace weft::quant {
namespace {

void copy(const Tensor& source, std::byte* to, int64_t first_row, int64_t last_row) {
  const size_t row_bytes = source.type.row_bytes(), at = static_cast<size_t>(first_row) * row_bytes;
  std::memcpy(to + at, source.data + at, static_cast<size_t>(last_row - first_row) * row_bytes);
}

constexpr Layout kAsStored{.name = "as_stored",
                           .bytes = [](const TensorType& type) { return type.bytes(); },
                           .pack = copy,
                           .tile_rows = 1,
                           .optional = true};

}  // namespace

const Layout* as_stored(const TensorType& type) {
  constexpr size_t kHugePage = size_t{2} << 20;
  return type.bytes() >= kHugePage ? &kAsStored : nullptr;
}

}  // namespace weft::quant
