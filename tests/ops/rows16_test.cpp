#include "ops/quant/rows16.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "ops/quant/all.h"

namespace weft::quant {
namespace {

std::vector<std::byte> random_bytes(size_t n) {
  std::mt19937 generator(1);
  std::vector<std::byte> bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(generator());
  return bytes;
}

/// Where byte `at` of block `block` of a row lies, by the header's words alone.
size_t packed_index(const TensorType& type, int64_t row, size_t block, size_t at) {
  const size_t block_bytes = type.dtype->block_bytes;
  size_t index = static_cast<size_t>(row / 16 * 16) * type.row_bytes() + block * 16 * block_bytes;
  const std::span<const PackedField> fields = packed_fields(type.dtype);
  for (size_t first = 0; first < fields.size(); first += 1 + fields[first].beside) {
    const auto turns = fields.subspan(first, 1 + fields[first].beside);
    size_t turn_bytes = 0, before = 0;
    for (const PackedField& f : turns) turn_bytes += size_t{16} * f.bytes;
    for (const PackedField& f : turns) {
      if (at >= f.offset && at < f.offset + f.bytes * f.count) {
        const size_t unit = (at - f.offset) / f.bytes, byte = (at - f.offset) % f.bytes;
        return index + unit * turn_bytes + before + static_cast<size_t>(row % 16) * f.bytes + byte;
      }
      before += size_t{16} * f.bytes;
    }
    index += turn_bytes * turns[0].count;
  }
  ADD_FAILURE() << "no field holds byte " << at;
  return 0;
}

TEST(Rows16, EveryByteHasItsPlaceAndMissingRowsAreZero) {
  int packed_types = 0;
  for (const TypeTraits* dtype : kAllTypes) {
    for (const int64_t rows : {1, 16, 37}) {
      const TensorType type{*dtype, {rows, int64_t{2} * dtype->block_elems}, Rows::all};
      const Layout* layout = rows16(type);
      if (!layout) continue;
      ++packed_types;
      auto stored = random_bytes(type.bytes());
      std::vector<std::byte> packed(layout->bytes(type), std::byte{0xEE});
      ASSERT_EQ(packed.size(), static_cast<size_t>((rows + 15) / 16 * 16) * type.row_bytes());
      for (int64_t first = 0; first < rows; first += 16) {  // in parallel by tiles: each range alone
        layout->pack({type, stored.data(), nullptr}, packed.data(), first, std::min(first + 16, rows));
      }
      std::vector<bool> taken(packed.size(), false);
      for (int64_t r = 0; r < rows; ++r) {
        for (size_t i = 0; i < type.row_bytes(); ++i) {
          const size_t at = packed_index(type, r, i / dtype->block_bytes, i % dtype->block_bytes);
          ASSERT_FALSE(taken[at]);
          taken[at] = true;
          ASSERT_EQ(packed[at], stored[static_cast<size_t>(r) * type.row_bytes() + i])
              << dtype->name << " row " << r << " byte " << i;
        }
      }
      for (size_t i = 0; i < packed.size(); ++i) {
        ASSERT_TRUE(taken[i] || packed[i] == std::byte{0}) << dtype->name;
      }
    }
  }
  EXPECT_GE(packed_types, 3 * 11);
}

TEST(Rows16, FloatsAreLeftAsTheyAre) {
  for (const TypeTraits* dtype : {&f32, &f16, &bf16}) {
    EXPECT_EQ(rows16({*dtype, {32, 32}, Rows::all}), nullptr) << dtype->name;
  }
}

}  // namespace
}  // namespace weft::quant
