// rows16: sixteen rows of a quantized weight side by side, so that the lanes of a vector are rows and a dot product
// needs no sum over lanes. A permutation of the stored bytes, of the same size but for padding to whole tiles.
//
//   tile    rows 16 i .. 16 i + 15; a row past the last is zero bytes
//   block   of a tile: the 16 rows' blocks of the same columns, one after the other along the row
//   field   of a block: `count` units of `bytes` each at `offset` in the stored block. Units in order; of each unit the
//           bytes of row 0, of row 1, ... `beside`: the next so many fields, of as many units, take turns with it.
//
// Quants are units of four bytes: 64 bytes hold the same four places of all rows, what one 8-bit dot product takes.
#pragma once

#include <cstdint>
#include <span>

#include "graph/tensor.h"

namespace weft::quant {

constexpr int64_t kPackedRows = 16;

struct PackedField {
  uint32_t offset, bytes, count, beside = 0;
};

/// The fields of a type's block in packed order; empty if the type has no packed form.
std::span<const PackedField> packed_fields(DType dtype);

/// The layout, for weights of a type that has a packed form, else null.
const Layout* rows16(const TensorType& type);

}  // namespace weft::quant
