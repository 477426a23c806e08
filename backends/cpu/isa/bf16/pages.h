// Pages of the KV cache by tile products: a page's keys and values become tiles once, keys turned as weights are,
// values as they lie, two keys a line; then blocks of queries meet them, small enough for scores and weights to stay
// near. Queries and weights are rounded to bf16 on the way, as keys and values are.
//
// Bound by the softmax between the two products: a row and a page of 64 keys of 64 are 20 cycles of the tile unit.
// Making tiles of a page is about 1500 cycles, so many rows must share it.
#pragma once

#include "backends/cpu/isa/bf16/tiles.h"

namespace weft::cpu::WEFT_ISA {

constexpr int64_t kTilePageQueries = 256, kTilePageBlock = 64;
constexpr int64_t kFewRows = 16;  // below this AVX-512 does it

constexpr int64_t padded_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// The parts of the scratch; keys, columns and rows are rounded up to whole tiles.
struct TilePageScratch {
  std::byte* keys;    // [pairs of key tiles][steps of 32 columns][2 tiles]
  std::byte* values;  // [pairs of column tiles][steps of 32 keys][2 tiles]
  uint16_t* rows;     // [block, row_stride]: queries or weights in bf16
  float* decoded;     // rows of a format that does not become tiles as it is: 16 keys of a chunk, or the values
  float* edge;        // [32, 32]
  int64_t row_stride;
  size_t bytes;

  TilePageScratch(std::byte* scratch, int64_t size, int64_t d) {
    const int64_t n_keys = padded_to(size, kPairSide), columns = padded_to(d, kPairSide);
    row_stride = (n_keys > columns ? n_keys : columns) + 32;  // rows a power of two apart would share cache sets
    int64_t taken = 0;
    const auto take = [&](int64_t n) {  // no pointer arithmetic where only `bytes` is asked for
      std::byte* part = scratch ? scratch + taken : nullptr;
      taken += padded_to(n, 64);
      return part;
    };
    keys = take(n_keys * columns * 2);
    values = take(n_keys * columns * 2);
    rows = reinterpret_cast<uint16_t*>(take(kTilePageBlock * row_stride * 2));
    const int64_t turned = kTileSide * kPairColumns, kept = size * padded_to(d, 16);
    decoded = reinterpret_cast<float*>(take((turned > kept ? turned : kept) * 4));
    edge = reinterpret_cast<float*>(take(kPairSide * kPairSide * 4));
    bytes = static_cast<size_t>(taken);
  }
};

inline size_t tile_page_scratch(int64_t size, int64_t d) {
  const size_t own = TilePageScratch(nullptr, size, d).bytes, few = avx512::kernels().pages.scratch_bytes(size, d);
  return own > few ? own : few;
}

inline bool tiles_serve(int64_t n_rows, int64_t d) { return n_rows >= kFewRows && d <= kPairColumns; }

inline void key_tiles(const Page& page, int64_t d, const TilePageScratch& parts) {
  const TileMatmul m{.x = nullptr,
                     .x_stride = 0,
                     .n_tokens = 0,
                     .k = d,
                     .w = page.rows,
                     .packed = false,
                     .first_row = 0,
                     .n_rows = page.n,
                     .out = nullptr,
                     .out_stride = 0,
                     .scratch = nullptr};
  const int64_t pair_bytes = padded_to(d, kTileColumns) / kTileColumns * kPairBytes;
  for (int64_t tile = 0; tile * kTileSide < page.n; ++tile) {
    fill_tiles(m, tile * kTileSide, page.n, 0, d, parts.decoded,
               parts.keys + tile / 2 * pair_bytes + tile % 2 * kTileBytes);
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
    return fill_value_tiles<Format::f16>(page.rows.data, page.rows.row_bytes, page.n, d, parts.values);
  if (d % 16 == 0 && page.rows.format == Format::bf16)
    return fill_value_tiles<Format::bf16>(page.rows.data, page.rows.row_bytes, page.n, d, parts.values);
  const int64_t stride = padded_to(d, 16);
  RowBlock row = page.rows;
  for (int64_t key = 0; key < page.n; ++key, row.data += row.row_bytes) {
    decode(row, parts.decoded + key * stride, d);
    for (int64_t i = d; i < stride; ++i) parts.decoded[key * stride + i] = 0;
  }
  fill_value_tiles<Format::f32>(reinterpret_cast<const std::byte*>(parts.decoded), static_cast<size_t>(stride) * 4,
                                page.n, stride, parts.values);
}

inline void enter_page(const Page& keys, const Page& values, int64_t n_rows, int64_t d, std::byte* scratch) {
  if (!tiles_serve(n_rows, d)) return;
  const TilePageScratch parts(scratch, keys.size, d);
  key_tiles(keys, d, parts);
  value_tiles(values, d, parts);
}

/// sums += 32 rows of bf16 at `rows` times pair `pair` of column tiles; `columns` of the 32 are wanted.
template <typename Unit>
WEFT_INLINE void multiply_pair(Unit& unit, const TilePageScratch& parts, const uint16_t* rows, const std::byte* pair,
                               int64_t steps, Sums sums, bool add, int64_t columns) {
  const bool whole = columns >= kPairSide;  // else the last 16 columns, by way of `edge`
  unit.product(add && whole ? sums : Sums{}, whole ? sums : Sums{parts.edge, kPairSide}, rows, parts.row_stride, pair,
               steps, [](int64_t) {});
  for (int64_t i = 0; i < kPairSide && !whole; ++i) {
    float* const to = sums.at + i * sums.stride;
    const V part = load(parts.edge + i * kPairSide);
    store(to, add ? load(to) + part : part);
  }
}

template <typename Unit>
void score_page_tiles(float* scores, const float* q, int64_t n_rows, const Page& page, int64_t d, std::byte* scratch) {
  if (!tiles_serve(n_rows, d)) return avx512::kernels().pages.score(scores, q, n_rows, page, d, scratch);
  const TilePageScratch parts(scratch, page.size, d);
  const int64_t q_stride = padded_to(d, 16), stride = padded_to(page.size, 16);
  const int64_t steps = padded_to(d, kTileColumns) / kTileColumns;
  for (int64_t r = 0; r < n_rows; ++r) to_bf16(q + r * q_stride, d, parts.rows + r * parts.row_stride);
  Unit unit;  // from here on: what was stored before is seen
  for (int64_t key = 0; key < page.n; key += kPairSide) {
    const std::byte* pair = parts.keys + key / kPairSide * steps * kPairBytes;
    for (int64_t r = 0; r < n_rows; r += kPairSide) {
      multiply_pair(unit, parts, parts.rows + r * parts.row_stride, pair, steps, {scores + r * stride + key, stride},
                    false, stride - key);
    }
  }
}

template <typename Unit>
void weigh_page_tiles(float* y, const float* keep, const float* p, int64_t n_rows, const Page& page, int64_t d,
                      std::byte* scratch) {
  if (!tiles_serve(n_rows, d)) return avx512::kernels().pages.weigh(y, keep, p, n_rows, page, d, scratch);
  const TilePageScratch parts(scratch, page.size, d);
  const int64_t stride = padded_to(d, 16), p_stride = padded_to(page.size, 16);
  const int64_t steps = padded_to(page.n, kTileColumns) / kTileColumns;
  for (int64_t r = 0; r < n_rows; ++r) {
    to_bf16(p + r * p_stride, page.n, parts.rows + r * parts.row_stride);
    if (keep[r] == 1) continue;
    for (int64_t i = 0; i < stride; i += kLanes) store(y + r * stride + i, load(y + r * stride + i) * set(keep[r]));
  }
  Unit unit;
  for (int64_t column = 0; column < stride; column += kPairSide) {
    const std::byte* pair = parts.values + column / kPairSide * steps * kPairBytes;
    for (int64_t r = 0; r < n_rows; r += kPairSide) {
      multiply_pair(unit, parts, parts.rows + r * parts.row_stride, pair, steps, {y + r * stride + column, stride},
                    true, stride - column);
    }
  }
}

/// The kernels of AVX-512, and these.
template <typename Unit>
IsaKernels kernels_with(const char* name, bool beat_int8, double (*multiply_tiles)(int64_t repeats)) {
  IsaKernels table = avx512::kernels();
  table.name = name;
  table.matmul_tiles = matmul_tiles<Unit>;
  table.tiles_beat_int8 = beat_int8;
  table.to_bf16 = to_bf16;
  table.tile_pages = {.queries = kTilePageQueries,
                      .block = kTilePageBlock,
                      .scratch_bytes = tile_page_scratch,
                      .enter = enter_page,
                      .score = score_page_tiles<Unit>,
                      .weigh = weigh_page_tiles<Unit>};
  table.multiply_tiles = multiply_tiles;
  return table;
}

}  // namespace weft::cpu::WEFT_ISA
