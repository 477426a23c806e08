#include "ops/quant/rows16.h"

#include <array>
#include <cstring>

#include "ops/quant/all.h"

namespace weft::quant {
namespace {

struct Packed {
  const TypeTraits* type;
  std::array<PackedField, 8> fields;  // those of no bytes are none

  constexpr std::span<const PackedField> used() const {
    size_t n = 0;
    while (n < fields.size() && fields[n].bytes > 0) ++n;
    return {fields.data(), n};
  }
  /// Every byte of a block belongs to one field.
  constexpr bool whole() const {
    std::array<int, 256> owners{};
    for (const PackedField& f : used()) {
      for (uint32_t at = f.offset; at < f.offset + f.bytes * f.count; ++at) ++owners[at];
    }
    for (uint32_t at = 0; at < owners.size(); ++at) {
      if (owners[at] != (at < type->block_bytes ? 1 : 0)) return false;
    }
    return true;
  }
};

constexpr std::array kPacked = {
    Packed{&q4_0, {{{0, 2, 1}, {2, 4, 4}}}},                           // d, qs
    Packed{&q4_1, {{{0, 2, 1}, {2, 2, 1}, {4, 4, 4}}}},                // d, m, qs
    Packed{&q5_0, {{{0, 2, 1}, {2, 4, 1}, {6, 4, 4}}}},                // d, qh, qs
    Packed{&q5_1, {{{0, 2, 1}, {2, 2, 1}, {4, 4, 1}, {8, 4, 4}}}},     // d, m, qh, qs
    Packed{&q8_0, {{{0, 2, 1}, {2, 4, 8}}}},                           // d, qs
    Packed{&q4_K, {{{0, 2, 1}, {2, 2, 1}, {4, 1, 12}, {16, 4, 32}}}},  // d, dmin, scales, qs
    // d, dmin, scales, qh with the first qs, the other qs
    Packed{&q5_K, {{{0, 2, 1}, {2, 2, 1}, {4, 1, 12}, {16, 4, 8, 1}, {48, 4, 8}, {80, 4, 24}}}},
    // d, scales, then of each half qh with both quarters of ql
    Packed{
        &q6_K,
        {{{208, 2, 1}, {192, 1, 16}, {128, 4, 8, 2}, {0, 4, 8}, {32, 4, 8}, {160, 4, 8, 2}, {64, 4, 8}, {96, 4, 8}}}},
    Packed{&iq4_nl, {{{0, 2, 1}, {2, 4, 4}}}},                         // d, qs
    Packed{&iq4_xs, {{{0, 2, 1}, {2, 2, 1}, {4, 1, 4}, {8, 4, 32}}}},  // d, scales_h, scales_l, qs
    Packed{&mxfp4, {{{0, 1, 1}, {1, 4, 4}}}},                          // e, qs
};
static_assert([] {
  for (const Packed& packed : kPacked) {
    if (!packed.whole()) return false;
  }
  return true;
}());

size_t packed_bytes(const TensorType& type) {
  const int64_t rows = type.shape.rows();
  return static_cast<size_t>((rows + kPackedRows - 1) / kPackedRows * kPackedRows) * type.row_bytes();
}

template <size_t Bytes>
std::byte* pack_units(std::span<const PackedField> turns, const std::byte* const (&rows)[kPackedRows], std::byte* to) {
  for (uint32_t unit = 0; unit < turns[0].count; ++unit) {
    for (const PackedField& field : turns) {
      for (const std::byte* row : rows) {
        std::memcpy(to, row + field.offset + unit * Bytes, Bytes);
        to += Bytes;
      }
    }
  }
  return to;
}

void pack(const Tensor& source, std::byte* packed, int64_t first_row, int64_t last_row) {
  const std::span<const PackedField> fields = packed_fields(source.type.dtype);
  const size_t row_bytes = source.type.row_bytes(), block_bytes = source.type.dtype->block_bytes;
  const int64_t n_rows = source.type.shape.rows();
  static constexpr std::array<std::byte, 256> kZeros{};
  for (int64_t tile = first_row; tile < last_row; tile += kPackedRows) {
    std::byte* to = packed + static_cast<size_t>(tile) * row_bytes;
    for (size_t at = 0; at < row_bytes; at += block_bytes) {
      const std::byte* rows[kPackedRows];
      for (int64_t r = 0; r < kPackedRows; ++r) {
        rows[r] = tile + r < n_rows ? source.data + static_cast<size_t>(tile + r) * row_bytes + at : kZeros.data();
      }
      for (size_t f = 0; f < fields.size(); f += 1 + fields[f].beside) {
        const auto turns = fields.subspan(f, 1 + fields[f].beside);
        switch (turns[0].bytes) {
          case 1:
            to = pack_units<1>(turns, rows, to);
            break;
          case 2:
            to = pack_units<2>(turns, rows, to);
            break;
          default:
            to = pack_units<4>(turns, rows, to);
        }
      }
    }
  }
}

constexpr Layout kRows16{.name = "rows16", .bytes = packed_bytes, .pack = pack, .tile_rows = kPackedRows};

}  // namespace

std::span<const PackedField> packed_fields(DType dtype) {
  for (const Packed& packed : kPacked) {
    if (dtype == *packed.type) return packed.used();
  }
  return {};
}

const Layout* rows16(const TensorType& type) { return packed_fields(type.dtype).empty() ? nullptr : &kRows16; }

}  // namespace weft::quant
