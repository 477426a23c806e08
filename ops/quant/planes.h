// planes: the fields of a quantized weight apart, each in a plane of its own, so that a GPU reads quants 16 aligned
// bytes at a time. A permutation of the stored bytes, of the same size but for padding to the start of each plane.
//
//   plane   one field of every block of the tensor, in the order of the blocks; planes in the order of the type's table
//   start   of each plane: a multiple of kPlaneAlignment bytes
//
// q4_K and q5_K have no planes: their blocks are multiples of 16 bytes as they are.
#pragma once

#include <cstdint>
#include <span>

#include "graph/tensor.h"
#include "ops/quant/plane_bytes.h"

namespace weft::quant {

struct PlaneField {
  uint32_t offset, bytes;  // in the stored block
};

/// The fields of a type's block in the order of their planes; empty if the type has none.
std::span<const PlaneField> plane_fields(DType dtype);

/// The layout, for weights of a type that has planes, else null.
const Layout* planes(const TensorType& type);

}  // namespace weft::quant
