#include "graph/shape.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace weft {

Shape::Shape(std::span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  require(dims.size() <= kMaxRank, "a tensor has at most {} dimensions, given {}", kMaxRank, dims.size());
  std::copy(dims.begin(), dims.end(), dims_.begin());
  int64_t n = 1;
  for (int64_t d : dims) {
    require(d >= 0, "a dimension cannot be negative, given [{}]", fmt::join(dims, ", "));
    require(!__builtin_mul_overflow(n, d, &n), "the shape [{}] has too many elements", fmt::join(dims, ", "));
  }
}

int64_t Shape::elements() const {
  int64_t n = 1;
  for (int64_t d : dims()) n *= d;
  return n;
}

bool operator==(const Shape& a, const Shape& b) { return std::ranges::equal(a.dims(), b.dims()); }

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape.dims(), ", ")); }

}  // namespace weft
