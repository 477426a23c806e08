#include "ops/quant/planes.h"

#include <array>
#include <cstring>

#include "ops/quant/all.h"

namespace weft::quant {
namespace {

struct Planes {
  const TypeTraits* type;
  std::array<PlaneField, 4> fields;  // those of no bytes are none

  constexpr std::span<const PlaneField> used() const {
    size_t n = 0;
    while (n < fields.size() && fields[n].bytes > 0) ++n;
    return {fields.data(), n};
  }
  /// Every byte of a block is in one field.
  constexpr bool whole() const {
    uint32_t covered = 0;
    for (const PlaneField& f : used()) covered += f.bytes;
    return covered == type->block_bytes;
  }
};

constexpr std::array kPlanes = {
    Planes{&q4_0, {{{2, 16}, {0, 2}}}},                           // qs, d
    Planes{&q4_1, {{{4, 16}, {0, 4}}}},                           // qs, d and m
    Planes{&q5_0, {{{6, 16}, {2, 4}, {0, 2}}}},                   // qs, qh, d
    Planes{&q5_1, {{{8, 16}, {4, 4}, {0, 4}}}},                   // qs, qh, d and m
    Planes{&q8_0, {{{2, 32}, {0, 2}}}},                           // qs, d
    Planes{&q6_K, {{{0, 128}, {128, 64}, {192, 16}, {208, 2}}}},  // ql, qh, scales, d
    Planes{&iq4_nl, {{{2, 16}, {0, 2}}}},                         // qs, d
    Planes{&iq4_xs, {{{8, 128}, {0, 8}}}},                        // qs, d and scales
    Planes{&mxfp4, {{{1, 16}, {0, 1}}}},                          // qs, e
};
static_assert([] {
  for (const Planes& planes : kPlanes) {
    if (!planes.whole()) return false;
  }
  return true;
}());

size_t blocks_of(const TensorType& type, int64_t rows) {
  return static_cast<size_t>(rows) * (type.row_bytes() / type.dtype->block_bytes);
}

size_t planes_bytes(const TensorType& type) {
  size_t bytes = 0;
  for (const PlaneField& field : plane_fields(type.dtype)) {
    bytes += plane_bytes(blocks_of(type, type.shape.rows()), field.bytes);
  }
  return bytes;
}

void pack_planes(const Tensor& source, std::byte* packed, int64_t first_row, int64_t last_row) {
  const TensorType& type = source.type;
  const size_t first = blocks_of(type, first_row), last = blocks_of(type, last_row);
  for (const PlaneField& field : plane_fields(type.dtype)) {
    const std::byte* from = source.data + field.offset;
    for (size_t block = first; block < last; ++block) {
      std::memcpy(packed + block * field.bytes, from + block * type.dtype->block_bytes, field.bytes);
    }
    packed += plane_bytes(blocks_of(type, type.shape.rows()), field.bytes);
  }
}

constexpr Layout kPlanesLayout{.name = "planes", .bytes = planes_bytes, .pack = pack_planes, .tile_rows = 1};

}  // namespace

std::span<const PlaneField> plane_fields(DType dtype) {
  for (const Planes& planes : kPlanes) {
    if (dtype == DType(*planes.type)) return planes.used();
  }
  return {};
}

const Layout* planes(const TensorType& type) { return plane_fields(type.dtype).empty() ? nullptr : &kPlanesLayout; }

}  // namespace weft::quant
