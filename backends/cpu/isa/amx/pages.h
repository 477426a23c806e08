// Pages of the KV cache by tile products: scores are a product with the keys as weights; values become the second
// operand as they lie, two keys a line. Queries and weights are rounded to bf16 on the way, as keys and values are.
//
// Bound by the softmax between the two: a row and a page of 64 keys of 64 are 20 cycles of the tile unit. Making a page
// into tiles is about 1500 cycles, so many rows must share it.
#pragma once

#include "backends/cpu/isa/amx/tiles.h"

namespace weft::cpu::WEFT_ISA {

constexpr int64_t kTilePageQueries = 256;
constexpr int64_t kFewRows = 16;  // below this AVX-512 does it

constexpr int64_t padded_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// The parts of the scratch; rows and columns are rounded up to whole tiles.
struct TilePageScratch {
  std::byte* panel;  // of matmul_tiles
  uint16_t* rows;    // [n_rows, row_stride]: queries or weights in bf16
  std::byte* tiles;  // [pairs of column tiles][steps of 32 keys][2 tiles]: values
  float* decoded;    // [size, d]: values of a format that is not turned into tiles as it is
  float* edge;       // [32, 32]
  int64_t row_stride;
  size_t bytes;

  TilePageScratch(std::byte* scratch, int64_t n_rows, int64_t size, int64_t d) {
    const int64_t keys = padded_to(size, kTileColumns), columns = padded_to(d, kPairSide);
    row_stride = (keys > columns ? keys : columns) + 32;  // rows a power of two apart would share cache sets
    std::byte* at = scratch;
    const auto take = [&](int64_t n) {
      std::byte* part = at;
      at += padded_to(n, 64);
      return part;
    };
    panel = take(static_cast<int64_t>(kPanelScratch));
    rows = reinterpret_cast<uint16_t*>(take(padded_to(n_rows, kPairSide) * row_stride * 2));
    tiles = take(keys * columns * 2);
    decoded = reinterpret_cast<float*>(take(size * padded_to(d, 16) * 4));
    edge = reinterpret_cast<float*>(take(kPairSide * kPairSide * 4));
    bytes = static_cast<size_t>(at - scratch);
  }
};

inline size_t tile_page_scratch(int64_t n_rows, int64_t size, int64_t d) {
  const size_t own = TilePageScratch(nullptr, n_rows, size, d).bytes;
  const size_t few = avx512::kernels().pages.scratch_bytes(n_rows, size, d);
  return own > few ? own : few;
}

inline bool few_rows(int64_t n_rows, int64_t d) {
  return n_rows < kFewRows || n_rows > kPanelTokens || d > kPairColumns;
}

template <typename Tiles>
void score_page_tiles(float* scores, const float* q, int64_t n_rows, const Page& page, int64_t d, std::byte* scratch) {
  if (few_rows(n_rows, d)) return avx512::kernels().pages.score(scores, q, n_rows, page, d, scratch);
  const TilePageScratch parts(scratch, n_rows, page.size, d);
  const int64_t q_stride = padded_to(d, 16), stride = padded_to(page.size, 16);
  for (int64_t r = 0; r < n_rows; ++r) to_bf16(q + r * q_stride, d, parts.rows + r * parts.row_stride);
  for (int64_t first = 0; first < page.n; first += kPanelRows) {
    const int64_t n = page.n - first < kPanelRows ? page.n - first : kPanelRows;
    matmul_tiles<Tiles>({.x = parts.rows,
                         .x_stride = parts.row_stride,
                         .n_tokens = n_rows,
                         .k = d,
                         .w = page.rows,
                         .packed = false,
                         .first_row = first,
                         .n_rows = n,
                         .out = scores + first,
                         .out_stride = stride,
                         .scratch = parts.panel});
  }
}

/// Values of the page's n keys, as tiles of 32 keys x 16 columns; keys and columns that are not there are zeros.
template <Format F>
void fill_value_tiles(const std::byte* data, size_t row_bytes, int64_t n, int64_t d, std::byte* out) {
  const int64_t steps = padded_to(n, kTileColumns) / kTileColumns;
  for (int64_t column = 0; column < padded_to(d, kPairSide); column += kTileSide) {
    std::byte* tile = out + column / kPairSide * steps * kPairBytes + column / kTileSide % 2 * kTileBytes;
    for (int64_t step = 0; step < steps; ++step, tile += kPairBytes) {
      for (int64_t line = 0; line < kTileSide; ++line) {
        const auto value = [&](int64_t key) WEFT_LAMBDA {
          if (key >= n || column >= d) return set(0);
          V v[1];
          Loader<F>::at(data + static_cast<size_t>(key) * row_bytes, column, v);
          return v[0];
        };
        const int64_t key = step * kTileColumns + 2 * line;
        _mm512_store_si512(tile + line * 64, pairs(value(key), value(key + 1)));
      }
    }
  }
}

inline void value_tiles(const Page& page, int64_t d, const TilePageScratch& parts) {
  if (d % 16 == 0 && page.rows.format == Format::f16)
    return fill_value_tiles<Format::f16>(page.rows.data, page.rows.row_bytes, page.n, d, parts.tiles);
  if (d % 16 == 0 && page.rows.format == Format::bf16)
    return fill_value_tiles<Format::bf16>(page.rows.data, page.rows.row_bytes, page.n, d, parts.tiles);
  const int64_t stride = padded_to(d, 16);
  RowBlock row = page.rows;
  for (int64_t key = 0; key < page.n; ++key, row.data += row.row_bytes) {
    decode(row, parts.decoded + key * stride, d);
    for (int64_t i = d; i < stride; ++i) parts.decoded[key * stride + i] = 0;
  }
  fill_value_tiles<Format::f32>(reinterpret_cast<const std::byte*>(parts.decoded), static_cast<size_t>(stride) * 4,
                                page.n, stride, parts.tiles);
}

/// Rows of y up to a multiple of 32 are read and written.
template <typename Tiles>
void weigh_page_tiles(float* y, const float* keep, const float* p, int64_t n_rows, const Page& page, int64_t d,
                      std::byte* scratch) {
  if (few_rows(n_rows, d)) return avx512::kernels().pages.weigh(y, keep, p, n_rows, page, d, scratch);
  const TilePageScratch parts(scratch, n_rows, page.size, d);
  const int64_t stride = padded_to(d, 16), p_stride = padded_to(page.size, 16);
  for (int64_t r = 0; r < n_rows; ++r) {
    to_bf16(p + r * p_stride, page.n, parts.rows + r * parts.row_stride);
    if (keep[r] == 1) continue;
    for (int64_t i = 0; i < stride; i += kLanes) store(y + r * stride + i, load(y + r * stride + i) * set(keep[r]));
  }
  value_tiles(page, d, parts);
  const int64_t steps = padded_to(page.n, kTileColumns) / kTileColumns;
  Tiles tiles;  // from here on: what was stored before is seen
  for (int64_t r = 0; r < n_rows; r += kPairSide) {
    for (int64_t column = 0; column < stride; column += kPairSide) {
      float* const sums = y + r * stride + column;
      const bool whole = column + kPairSide <= stride;  // else the last 16 columns, by way of `edge`
      if (whole) tiles.load(sums, stride * 4);
      else tiles.zero();
      for (int64_t step = 0; step < steps; ++step) {
        tiles.multiply(parts.rows + r * parts.row_stride + step * kTileColumns, parts.row_stride * 2,
                       parts.tiles + (column / kPairSide * steps + step) * kPairBytes);
      }
      if (whole) {
        tiles.store(sums, stride * 4);
        continue;
      }
      tiles.store(parts.edge, kPairSide * 4);
      for (int64_t i = 0; i < kPairSide; ++i)
        store(sums + i * stride, load(sums + i * stride) + load(parts.edge + i * kPairSide));
    }
  }
}

/// The kernels of AVX-512, and these.
template <typename Tiles>
IsaKernels kernels_with(double (*multiply_tiles)(int64_t repeats)) {
  IsaKernels table = avx512::kernels();
  table.name = "amx";
  table.matmul_tiles = matmul_tiles<Tiles>;
  table.to_bf16 = to_bf16;
  table.tile_pages = {.queries = kTilePageQueries,
                      .scratch_bytes = tile_page_scratch,
                      .score = score_page_tiles<Tiles>,
                      .weigh = weigh_page_tiles<Tiles>};
  table.multiply_tiles = multiply_tiles;
  return table;
}

}  // namespace weft::cpu::WEFT_ISA
