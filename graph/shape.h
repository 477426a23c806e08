// Dimensions of a tensor, slowest first: the last one is contiguous in memory.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "graph/error.h"

namespace weft {

class Shape {
 public:
  static constexpr int kMaxRank = 5;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  /// Negative indices count from the end: shape[-1] is the row length.
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i < 0 ? i + rank_ : i)]; }
  void set(int i, int64_t n) { dims_[static_cast<size_t>(i < 0 ? i + rank_ : i)] = n; }
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }

  int64_t elements() const;  // 1 for rank 0
  int64_t columns() const { return rank_ == 0 ? 1 : dims_[static_cast<size_t>(rank_) - 1]; }
  int64_t rows() const { return columns() == 0 ? 0 : elements() / columns(); }

  friend bool operator==(const Shape& a, const Shape& b);

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

std::string to_string(const Shape& shape);  // "[2, 3]"

}  // namespace weft
