// The type of a value, and a view of its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "graph/dtype.h"
#include "graph/shape.h"

namespace weft {

/// What the leading dimension counts. A plan is made for a capacity; how much of it is live arrives as data, and
/// kernels skip the rest: rows past the live count are never read by a live row.
enum class Rows : uint8_t {
  all,     // every row, always
  tokens,  // tokens of this step
  logits,  // tokens of this step whose logits are wanted
};

std::string_view to_string(Rows rows);

struct TensorType {
  DType dtype;
  Shape shape;
  Rows rows = Rows::all;

  explicit operator bool() const { return static_cast<bool>(dtype); }
  int64_t elements() const { return shape.elements(); }
  size_t row_bytes() const;  // bytes of one row (last dimension)
  size_t bytes() const;      // of the whole capacity

  friend bool operator==(const TensorType&, const TensorType&) = default;
};

/// Throws Error if rows are not whole blocks of the dtype or the size overflows.
void check_storable(const TensorType& type);

std::string to_string(const TensorType& type);  // "f32[T=8, 64]"

struct Layout;

/// A view: bytes somewhere, owned by somebody else. Dense, rows contiguous.
struct Tensor {
  TensorType type;
  std::byte* data = nullptr;
  const Layout* layout = nullptr;  // how rows are packed; null = as the dtype says

  explicit operator bool() const { return data != nullptr; }
  int64_t dim(int i) const { return type.shape[i]; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

/// A lossless permutation of a weight's bytes that a kernel reads faster. Defined beside its format in ops/quant/.
struct Layout {
  std::string_view name;
  /// Bytes needed for `rows` x `columns` elements of the dtype (usually the unpacked size, rows padded to a tile).
  size_t (*bytes)(const TensorType& type);
  /// Packs rows [first, last) of `source`; calls for disjoint tile-aligned ranges may run in parallel.
  void (*pack)(const Tensor& source, std::byte* packed, int64_t first_row, int64_t last_row);
  int64_t tile_rows;  // ranges given to `pack` start at multiples of this
};

}  // namespace weft
