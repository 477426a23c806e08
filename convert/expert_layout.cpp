#include "convert/expert_layout.h"

#include <algorithm>
#include <cstring>

#include "ops/quant/mxfp4.h"

namespace weft {

void expert_columns(const Tensor& from, Interleaved take, int64_t first, int64_t last, std::byte* to) {
  const int64_t in = from.dim(1), columns = from.dim(2), out = columns / take.parts;
  const size_t size = from.type.dtype->block_bytes;
  constexpr int64_t kTile = 32;  // both sides of a tile stay in cache
  for (int64_t r0 = first; r0 < last; r0 += kTile) {
    for (int64_t i0 = 0; i0 < in; i0 += kTile) {
      for (int64_t row = r0; row < std::min(last, r0 + kTile); ++row) {
        const int64_t expert = row / out, column = row % out * take.parts + take.part;
        for (int64_t i = i0; i < std::min(in, i0 + kTile); ++i) {
          std::memcpy(to + static_cast<size_t>((row - first) * in + i) * size,
                      from.data + static_cast<size_t>((expert * in + i) * columns + column) * size, size);
        }
      }
    }
  }
}

void mxfp4_expert_rows(std::span<const std::byte> blocks, std::span<const std::byte> scales, int64_t groups,
                       Interleaved take, int64_t first, int64_t last, std::byte* to) {
  constexpr size_t kHalf = quant::BlockMXFP4::kElems / 2;
  // Rows of all experts stand one after the other, interleaved alike in each.
  for (int64_t row = first; row < last; ++row) {
    const auto from_group = static_cast<size_t>((row * take.parts + take.part) * groups);
    for (size_t g = 0; g < static_cast<size_t>(groups); ++g, to += sizeof(quant::BlockMXFP4)) {
      const std::byte* pairs = blocks.data() + (from_group + g) * kHalf;
      const auto element = [&](size_t i) { return (pairs[i / 2] >> (i % 2 * 4)) & std::byte{15}; };
      to[0] = scales[from_group + g];
      for (size_t i = 0; i < kHalf; ++i) to[1 + i] = element(i) | element(i + kHalf) << 4;
    }
  }
}

void every_nth(const Tensor& from, Interleaved take, std::byte* to) {
  const size_t size = from.type.dtype->block_bytes, n = static_cast<size_t>(from.type.elements() / take.parts);
  for (size_t i = 0; i < n; ++i) {
    const size_t at = i * static_cast<size_t>(take.parts) + static_cast<size_t>(take.part);
    std::memcpy(to + i * size, from.data + at * size, size);
  }
}

}  // namespace weft
