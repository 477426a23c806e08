// What infer functions check, in one wording: what was asked, what was given.
#pragma once

#include <initializer_list>
#include <string_view>

#include "graph/tensor.h"
#include "ops/quant/f32.h"

namespace weft {

inline TensorType f32_type(Shape shape, Rows rows = Rows::all) { return {quant::f32, shape, rows}; }
inline TensorType i32_type(Shape shape, Rows rows = Rows::all) { return {quant::i32, shape, rows}; }

inline void check_dtype(const TensorType& type, DType wanted, std::string_view what) {
  require(type.dtype == wanted, "{} must be {}, given {}", what, wanted.name(), to_string(type));
}

inline void check_rank(const TensorType& type, int rank, std::string_view what) {
  require(type.shape.rank() == rank, "{} must have {} dimensions, given {}", what, rank, to_string(type));
}

/// f32 of exactly this shape; an absent type passes.
inline void check_f32(const TensorType& type, const Shape& shape, std::string_view what) {
  if (!type) return;
  require(type.dtype == quant::f32 && type.shape == shape, "{} must be f32{}, given {}", what, to_string(shape),
          to_string(type));
}

/// i32 of exactly this shape; an absent type passes.
inline void check_i32(const TensorType& type, const Shape& shape, std::string_view what) {
  if (!type) return;
  require(type.dtype == quant::i32 && type.shape == shape, "{} must be i32{}, given {}", what, to_string(shape),
          to_string(type));
}

/// Activations of the GPT layer: f32 [T, D].
inline void check_activations(const TensorType& type, std::string_view what) {
  check_dtype(type, quant::f32, what);
  check_rank(type, 2, what);
}

/// What the leading dimension of a result counts, given the types that share that dimension.
inline Rows common_rows(std::initializer_list<TensorType> types) {
  Rows rows = Rows::all;
  for (const TensorType& type : types) {
    if (!type || type.rows == Rows::all) continue;
    require(rows == Rows::all || rows == type.rows, "rows of tokens cannot meet rows of logits");
    rows = type.rows;
  }
  return rows;
}

}  // namespace weft
