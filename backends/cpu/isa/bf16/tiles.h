// out[t, n] = dot(x[t, :], w[n, :]) by products of bf16, summed in f32. For each chunk of columns the weights become a
// panel of tiles in L2, which then meets every token, 32 tokens and 32 rows at a time; sums wait in scratch between
// chunks. What the next 32 tokens need is asked for meanwhile: it comes from L3.
//
// Unpacking costs about 100 cycles a tile of weights, as much as 100 tokens' products on a tile unit: so this is for
// many tokens. What bounds the products is said where they are: the tile unit's (amx.cpp), dot products of vectors
// (dots.cpp) or, in tests, what those do in plain loops. Each is a class with
//   kColumns                                      of a chunk: a multiple of every format's block
//   product(from, to, a, a_stride, b, steps, ask)   to = from + 32 tokens at `a` times two tiles of the panel a step,
//                                                 32 columns, at `b`; ask(step) once a step, between products
#pragma once

#include "backends/cpu/isa/bf16/panel.h"

namespace weft::cpu::WEFT_ISA {

constexpr int64_t kPairSide = 2 * kTileSide, kPairBytes = 2 * kTileBytes;
constexpr int64_t kPairColumns = 2048;  // of a chunk at most

/// 32 x 32 sums, lines `stride` floats apart; none: zeros.
struct Sums {
  float* at = nullptr;
  int64_t stride = 0;
};

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

/// The output of tokens t.. and rows row.., where all 32 x 32 are wanted; else none.
inline Sums output(const TileMatmul& m, int64_t t, int64_t row) {
  if (row < m.first_row || row + kPairSide > m.first_row + m.n_rows || t + kPairSide > m.n_tokens) return {};
  return {m.out + t * m.out_stride + (row - m.first_row), m.out_stride};
}

/// What is wanted of them.
inline void store_edge(const TileMatmul& m, int64_t t, int64_t row, const float* edge) {
  float* const out = m.out + t * m.out_stride + (row - m.first_row);
  const int64_t end = m.first_row + m.n_rows;
  const int64_t low = row < m.first_row ? m.first_row - row : 0, high = end - row < kPairSide ? end - row : kPairSide;
  for (int64_t i = 0; i < kPairSide && t + i < m.n_tokens; ++i) {
    for (int64_t j = low; j < high; ++j) out[i * m.out_stride + j] = edge[i * kPairSide + j];
  }
}

template <typename Unit>
void matmul_tiles(const TileMatmul& m) {
  static_assert(Unit::kColumns <= kPairColumns);
  const TileScratch scratch(m.scratch);
  const int64_t end = m.first_row + m.n_rows, begin = m.packed ? m.first_row / kTileSide * kTileSide : m.first_row;
  const int64_t pairs = (end - begin + kPairSide - 1) / kPairSide;
  for (int64_t k0 = 0; k0 < m.k; k0 += Unit::kColumns) {
    const int64_t n = m.k - k0 < Unit::kColumns ? m.k - k0 : Unit::kColumns;
    const int64_t steps = (n + kTileColumns - 1) / kTileColumns, pair_bytes = steps * kPairBytes;
    for (int64_t tile = 0; tile < 2 * pairs; ++tile) {
      const int64_t row = begin + tile * kTileSide;
      if (row >= end) break;  // a last tile alone: its neighbour's sums are not used
      fill_tiles(m, row, end, k0, n, scratch.decoded, scratch.panel + tile / 2 * pair_bytes + tile % 2 * kTileBytes);
    }
    Unit unit;  // from here on: what was stored before is seen
    const bool last = k0 + n == m.k;
    for (int64_t t = 0; t < m.n_tokens; t += kPairSide) {
      const uint16_t* x = m.x + t * m.x_stride + k0;
      for (int64_t pair = 0; pair < pairs; ++pair) {
        const Sums kept{scratch.sums + (t / kPairSide * pairs + pair) * kPairSide * kPairSide, kPairSide};
        const int64_t row = begin + pair * kPairSide;
        const Sums out = output(m, t, row), to = !last ? kept : out.at ? out : Sums{scratch.edge, kPairSide};
        const int64_t next = kPairSide + kPairSide * pair / pairs,
                      next_end = kPairSide + kPairSide * (pair + 1) / pairs;
        const auto ask = [&](int64_t step) WEFT_LAMBDA {
          for (int64_t r = next; r < next_end; ++r) {  // past the last token is harmless: it never faults
            _mm_prefetch(reinterpret_cast<const char*>(x + step * kTileColumns + r * m.x_stride), _MM_HINT_T1);
          }
        };
        unit.product(k0 == 0 ? Sums{} : kept, to, x, m.x_stride, scratch.panel + pair * pair_bytes, steps, ask);
        if (last && !out.at) store_edge(m, t, row, scratch.edge);
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
