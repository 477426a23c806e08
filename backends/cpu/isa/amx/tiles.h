// out[t, n] = dot(x[t, :], w[n, :]) by tile products of bf16, summed in f32. For each chunk of columns the weights
// become a panel of tiles in L2, which then meets every token, 32 tokens and 32 rows at a time, in a block of 2 x 2
// tiles; sums wait in scratch between chunks. What the next 32 tokens need is asked for meanwhile: it comes from L3.
//
// Bound by the tile unit, 64 cycles a block and 32 columns, or by the 64 lines that these load from L2. Unpacking costs
// about 100 cycles a tile of weights, as much as 100 tokens' products: so this is for many tokens.
//
// `Tiles` is the hardware's (amx.cpp) or, in tests, what it does in plain loops:
//   zero()                     clears the sums, 32 tokens x 32 rows
//   load(c, stride)  store     32 x 32 floats, in lines `stride` bytes apart
//   multiply(a, a_stride, b)   adds 32 tokens x 32 columns at `a` times two tiles of the panel at `b`
#pragma once

#include "backends/cpu/isa/amx/panel.h"

namespace weft::cpu::WEFT_ISA {

constexpr int64_t kPairSide = 2 * kTileSide, kPairBytes = 2 * kTileBytes;
constexpr int64_t kPairColumns = 2048;  // of a chunk: a multiple of every format's block

/// The parts of the scratch.
struct TileScratch {
  std::byte* panel;  // [pairs of row tiles][tiles of a chunk][2 tiles]
  float* decoded;    // [16, kPairColumns]: rows of a format that is not packed
  float* sums;       // [pairs of token tiles][pairs of row tiles][32 x 32]
  float* edge;       // [32 x 32]

  static constexpr int64_t kRows = kPanelRows + kPairSide;  // rows need not begin where a tile does
  static constexpr int64_t kPanelBytes = kRows * kPairColumns * 2;
  static constexpr int64_t kDecodedBytes = kTileSide * kPairColumns * 4;
  static constexpr int64_t kSumsBytes = kPanelTokens * kRows * 4;
  static constexpr int64_t kEdgeBytes = kPairSide * kPairSide * 4;
  static_assert(kPanelBytes + kDecodedBytes + kSumsBytes + kEdgeBytes <= static_cast<int64_t>(kPanelScratch));

  explicit TileScratch(std::byte* scratch)
      : panel(scratch),
        decoded(reinterpret_cast<float*>(scratch + kPanelBytes)),
        sums(reinterpret_cast<float*>(scratch + kPanelBytes + kDecodedBytes)),
        edge(reinterpret_cast<float*>(scratch + kPanelBytes + kDecodedBytes + kSumsBytes)) {}
};

/// Columns [k0, k0 + n) of the sixteen rows from `row` on, of which `last` is the first that there is not; tiles
/// kPairBytes apart. Rows that are not there may be anything.
inline void fill_tiles(const TileMatmul& m, int64_t row, int64_t last, int64_t k0, int64_t n, float* decoded,
                       std::byte* out) {
  if (m.packed) {
    const PackedFormat format = packed_format(m.w.format);
    const std::byte* tile = m.w.data + row / kTileSide * (m.k / format.elems * format.bytes);
    return format.unpack(tile + k0 / format.elems * format.bytes, n, out, kPairBytes);
  }
  if (row + kTileSide <= last && n % kTileColumns == 0 && turn_rows(m.w, row, k0, n, out, kPairBytes)) return;
  const int64_t padded = (n + kTileColumns - 1) / kTileColumns * kTileColumns;
  for (int64_t r = 0; r < kTileSide; ++r) {
    float* to = decoded + r * kPairColumns;
    if (row + r < last) {
      RowBlock part = m.w;
      part.data +=
          static_cast<size_t>(row + r) * part.row_bytes + static_cast<size_t>(k0 / part.block_elems) * part.block_bytes;
      decode(part, to, n);
      for (int64_t i = n; i < padded; ++i) to[i] = 0;
    } else {
      __builtin_memset(to, 0, static_cast<size_t>(padded) * sizeof(float));
    }
  }
  const RowBlock all{.data = reinterpret_cast<const std::byte*>(decoded),
                     .row_bytes = kPairColumns * sizeof(float),
                     .format = Format::f32,
                     .block_elems = 1,
                     .block_bytes = sizeof(float),
                     .decode = nullptr};
  turn_rows(all, 0, 0, padded, out, kPairBytes);
}

/// The sums of tokens t.. and rows row.. to the output; by way of `edge` where not all 32 x 32 are wanted.
template <typename Tiles>
void store_sums(Tiles& tiles, const TileMatmul& m, int64_t t, int64_t row, float* edge) {
  const int64_t end = m.first_row + m.n_rows;
  float* const out = m.out + t * m.out_stride + (row - m.first_row);
  if (row >= m.first_row && row + kPairSide <= end && t + kPairSide <= m.n_tokens) {
    tiles.store(out, m.out_stride * 4);
    return;
  }
  tiles.store(edge, kPairSide * 4);
  const int64_t low = row < m.first_row ? m.first_row - row : 0, high = end - row < kPairSide ? end - row : kPairSide;
  for (int64_t i = 0; i < kPairSide && t + i < m.n_tokens; ++i) {
    for (int64_t j = low; j < high; ++j) out[i * m.out_stride + j] = edge[i * kPairSide + j];
  }
}

template <typename Tiles>
void matmul_tiles(const TileMatmul& m) {
  const TileScratch scratch(m.scratch);
  const int64_t end = m.first_row + m.n_rows, begin = m.packed ? m.first_row / kTileSide * kTileSide : m.first_row;
  const int64_t pairs = (end - begin + kPairSide - 1) / kPairSide;
  for (int64_t k0 = 0; k0 < m.k; k0 += kPairColumns) {
    const int64_t n = m.k - k0 < kPairColumns ? m.k - k0 : kPairColumns;
    const int64_t steps = (n + kTileColumns - 1) / kTileColumns, pair_bytes = steps * kPairBytes;
    for (int64_t tile = 0; tile < 2 * pairs; ++tile) {
      const int64_t row = begin + tile * kTileSide;
      if (row >= end) break;  // a last tile alone: its neighbour's sums are not used
      fill_tiles(m, row, end, k0, n, scratch.decoded, scratch.panel + tile / 2 * pair_bytes + tile % 2 * kTileBytes);
    }
    Tiles tiles;  // from here on: what was stored before is seen
    const bool first = k0 == 0, last = k0 + n == m.k;
    for (int64_t t = 0; t < m.n_tokens; t += kPairSide) {
      const uint16_t* x = m.x + t * m.x_stride + k0;
      for (int64_t pair = 0; pair < pairs; ++pair) {
        float* const sums = scratch.sums + (t / kPairSide * pairs + pair) * kPairSide * kPairSide;
        if (first) {
          tiles.zero();
        } else {
          tiles.load(sums, kPairSide * 4);
        }
        const std::byte* w = scratch.panel + pair * pair_bytes;
        const int64_t next = kPairSide + kPairSide * pair / pairs,
                      next_end = kPairSide + kPairSide * (pair + 1) / pairs;
        for (int64_t i = 0; i < steps; ++i) {
          const uint16_t* const columns = x + i * kTileColumns;
          for (int64_t r = next; r < next_end; ++r) {  // past the last token is harmless: it never faults
            _mm_prefetch(reinterpret_cast<const char*>(columns + r * m.x_stride), _MM_HINT_T1);
          }
          tiles.multiply(columns, m.x_stride * 2, w + i * kPairBytes);
        }
        if (last) {
          store_sums(tiles, m, t, begin + pair * kPairSide, scratch.edge);
        } else {
          tiles.store(sums, kPairSide * 4);
        }
      }
    }
  }
}

/// n values in bf16, rounded to nearest even, then zeros to a multiple of 32.
inline void to_bf16(const float* x, int64_t n, uint16_t* out) {
  int64_t i = 0;
  for (; i + kTileColumns <= n; i += kTileColumns) {
    const auto both = (I)_mm512_cvtne2ps_pbh(load(x + i + kLanes), load(x + i));
    __builtin_memcpy(out + i, &both, sizeof both);
  }
  if (i == n) return;
  alignas(64) float rest[kTileColumns] = {};
  __builtin_memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(float));
  const auto both = (I)_mm512_cvtne2ps_pbh(load(rest + kLanes), load(rest));
  __builtin_memcpy(out + i, &both, sizeof both);
}

}  // namespace weft::cpu::WEFT_ISA
