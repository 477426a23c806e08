// Primitives that move elements and compute nothing. Types with one value per element (f32, f16, bf16, i32) move.
#pragma once

#include "ops/build.h"
#include "ops/check.h"

namespace weft {

inline void check_movable(const TensorType& type) {
  require(static_cast<bool>(type.dtype) && type.dtype->block_elems == 1, "elements of {} cannot move one by one",
          to_string(type));
}

inline int check_dim(int64_t dim, const TensorType& type) {
  require(dim >= 0 && dim < type.shape.rank(), "there is no dimension {} in {}", dim, to_string(type));
  return static_cast<int>(dim);
}

struct Reshape {
  static constexpr std::string_view name = "reshape", doc = R"(
    y = the elements of x, in order, in another shape; `rows` says what its leading dimension counts. y shares the bytes
    of x. Where rows are counted, what lies past the live ones is undefined.)";
  enum Input { kX };
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y", kX}};
  std::vector<int64_t> shape;
  Rows rows = Rows::all;
  static constexpr auto fields = field_list(field("shape", &Reshape::shape), field("rows", &Reshape::rows));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX];
    check_movable(x);
    const Shape to{std::span<const int64_t>(shape)};
    require(to.elements() == x.shape.elements(), "cannot reshape {} to {}", to_string(x), to_string(to));
    return {{x.dtype, to, rows}};
  }
  Cost cost(const Types&, const std::vector<TensorType>&, const Workload&) const { return {}; }
};

struct Permute {
  static constexpr std::string_view name = "permute", doc = "y = x with dimension i taken from order[i].";
  enum Input { kX };
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  std::vector<int64_t> order;
  static constexpr auto fields = field_list(field("order", &Permute::order));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX];
    check_movable(x);
    const auto rank = static_cast<size_t>(x.shape.rank());
    require(order.size() == rank, "an order of {} cannot permute {}", order.size(), to_string(x));
    std::vector<bool> seen(rank, false);
    Shape shape = x.shape;
    for (size_t i = 0; i < rank; ++i) {
      const int dim = check_dim(order[i], x);
      require(!seen[static_cast<size_t>(dim)], "the order names dimension {} twice", dim);
      seen[static_cast<size_t>(dim)] = true;
      shape.set(static_cast<int>(i), x.shape[dim]);
    }
    return {{x.dtype, shape, rank > 0 && order[0] == 0 ? x.rows : Rows::all}};
  }
};

struct Slice {
  static constexpr std::string_view name = "slice", doc = "y = x[start, start + length) of dimension `dim`.";
  enum Input { kX };
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  int64_t dim = 0, start = 0, length = 0;
  static constexpr auto fields =
      field_list(field("dim", &Slice::dim), field("start", &Slice::start), field("length", &Slice::length));

  std::vector<TensorType> infer(const Types& in) const {
    TensorType type = in[kX];
    check_movable(type);
    const int d = check_dim(dim, type);
    const int64_t n = type.shape[d];
    require(start >= 0 && length >= 0 && start <= n && length <= n - start,
            "cannot take [{}, {}) of dimension {} of {}", start, start + length, dim, to_string(type));
    if (d == 0 && length != n) type.rows = Rows::all;
    type.shape.set(d, length);
    return {type};
  }

  /// Only the part that is kept is read.
  Cost cost(const Types&, const std::vector<TensorType>& out, const Workload& workload) const {
    return {.activation_bytes = 2 * live_bytes(out[0], workload)};
  }
};

struct Concat {
  static constexpr std::string_view name = "concat", doc = "y = the inputs one after another along dimension `dim`.";
  enum Input { kX };
  static constexpr std::array inputs = {list("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  int64_t dim = 0;
  static constexpr auto fields = field_list(field("dim", &Concat::dim));

  std::vector<TensorType> infer(const Types& in) const {
    TensorType type = in[kX];
    check_movable(type);
    const int d = check_dim(dim, type);
    int64_t n = 0;
    for (const TensorType& part : in.list(kX)) {
      Shape expected = type.shape;
      if (part.shape.rank() == expected.rank()) expected.set(d, part.shape[d]);
      require(part.dtype == type.dtype && part.shape == expected, "cannot concatenate {} to {} along dimension {}",
              to_string(part), to_string(type), dim);
      n += part.shape[d];
      if (d != 0) type.rows = common_rows({type, part});
    }
    if (d == 0 && in.list(kX).size() > 1) type.rows = Rows::all;
    type.shape.set(d, n);
    return {type};
  }
};

inline Value reshape(Value x, std::vector<int64_t> shape, Rows rows) {
  return build(Reshape{std::move(shape), rows}, {x})[0];
}
/// Keeps counting what x counts if the leading dimension stays.
inline Value reshape(Value x, std::vector<int64_t> shape) {
  const TensorType type = x.type();
  const bool same = !shape.empty() && type.shape.rank() > 0 && shape[0] == type.shape[0];
  return reshape(x, std::move(shape), same ? type.rows : Rows::all);
}
inline Value permute(Value x, std::vector<int64_t> order) { return build(Permute{std::move(order)}, {x})[0]; }
/// x itself where the slice is the whole.
inline Value slice(Value x, int64_t dim, int64_t start, int64_t length) {
  const Shape shape = x.type().shape;
  if (dim >= 0 && dim < shape.rank() && start == 0 && length == shape[static_cast<int>(dim)]) return x;
  return build(Slice{dim, start, length}, {x})[0];
}
/// x itself where there is only one.
inline Value concat(int64_t dim, std::vector<Value> x) {
  if (x.size() == 1) return x[0];
  return build(Concat{dim}, {std::move(x)})[0];
}

}  // namespace weft
