#include "graph/tensor.h"

#include <fmt/format.h>

namespace weft {

std::string_view to_string(Rows rows) {
  switch (rows) {
    case Rows::all:
      return "";
    case Rows::tokens:
      return "T";
    case Rows::logits:
      return "L";
  }
  return "";
}

size_t TensorType::row_bytes() const {
  return static_cast<size_t>(shape.columns()) / dtype->block_elems * dtype->block_bytes;
}

size_t TensorType::bytes() const { return static_cast<size_t>(shape.rows()) * row_bytes(); }

void check_storable(const TensorType& type) {
  require(static_cast<bool>(type.dtype), "a tensor of shape {} has no type", to_string(type.shape));
  require(type.shape.columns() % type.dtype->block_elems == 0,
          "rows of {} elements are not whole blocks of {} ({} each)", type.shape.columns(), type.dtype.name(),
          type.dtype->block_elems);
  size_t row = 0, bytes = 0;
  require(!__builtin_mul_overflow(static_cast<size_t>(type.shape.columns()) / type.dtype->block_elems,
                                  size_t{type.dtype->block_bytes}, &row) &&
              !__builtin_mul_overflow(static_cast<size_t>(type.shape.rows()), row, &bytes),
          "a tensor {} {} is too large", type.dtype.name(), to_string(type.shape));
}

std::string to_string(const TensorType& type) {
  if (!type) return "none";
  std::string dims;
  for (int i = 0; i < type.shape.rank(); ++i) {
    if (i > 0) dims += ", ";
    if (i == 0 && type.rows != Rows::all) dims += fmt::format("{}=", to_string(type.rows));
    dims += fmt::format("{}", type.shape[i]);
  }
  return fmt::format("{}[{}]", type.dtype.name(), dims);
}

}  // namespace weft
