// out[t, n] = dot(x[t, :], w[n, :]).
//
// Every output element is the same arithmetic whatever the number of tokens, rows, tiles or threads: one vector of
// kLanes partial sums over ascending k, lane l taking the elements k = l mod kLanes, then sum(). The decoded values
// are the format's own (Loader and RowBlock::decode agree to the bit). So logits do not depend on how work was split.
//
// Up to four tokens: the rows as several streams, each read from its start to its end, decoded in registers, one
// accumulator for each stream and token. Bound by memory; q4_0 by decoding.
// More tokens: chunk of kChunk columns by chunk, kDecodeRows rows are decoded into L1 and multiplied with all tokens of
// a tile by a register block of kBlockTokens x kBlockRows accumulators, while the next rows are asked for; between
// chunks the accumulators wait in L2. Bound by the FMA units.
#include "backends/cpu/isa/decode.h"
#include "backends/cpu/isa/kernels.h"

namespace weft::cpu::WEFT_ISA {
namespace {

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

constexpr int64_t kGemvTokens = 4;

/// Rows at once for so many tokens: T x R accumulators, and the decoded vectors, in registers.
constexpr int gemv_rows(int tokens) {
  if (tokens == 2) return kLanes == 16 ? 8 : 4;
  return tokens == 1 || kLanes == 16 ? 4 : 2;
}

/// Row first of each of R streams of rows, `apart` rows long.
template <Format F, int T, int R>
void gemv(const Matmul& m, int64_t first, int64_t apart) {
  constexpr int kStep = Loader<F>::kStep, kVectors = kStep / kLanes;
  constexpr int64_t kAhead = 512;  // bytes, of each stream
  const std::byte* w[R];
  V acc[T][R];
  for (int r = 0; r < R; ++r) {
    w[r] = m.w.data + static_cast<size_t>(first + r * apart) * m.w.row_bytes;
    for (int t = 0; t < T; ++t) acc[t][r] = set(0);
  }
  for (int64_t i = 0; i < m.k; i += kStep) {
    if (i % Loader<F>::kLine == 0) {  // prefetching past the weight is harmless: it never faults
      for (int r = 0; r < R; ++r) {
        _mm_prefetch(reinterpret_cast<const char*>(w[r] + i / kStep * Loader<F>::kBytes + kAhead), _MM_HINT_T0);
      }
    }
    V xs[T][kVectors];
    for (int t = 0; t < T; ++t) {
      for (int v = 0; v < kVectors; ++v) xs[t][v] = load(m.x + t * m.x_stride + i + v * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      V ws[kVectors];
      Loader<F>::at(w[r], i, ws);
      for (int t = 0; t < T; ++t) {
        for (int v = 0; v < kVectors; ++v) acc[t][r] = fma(ws[v], xs[t][v], acc[t][r]);
      }
    }
  }
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < R; ++r) m.out[t * m.out_stride + first + r * apart] = sum(acc[t][r]);
  }
}

template <Format F, int T>
void gemv_all(const Matmul& m) {
  constexpr int kRows = gemv_rows(T);
  const int64_t apart = m.n_rows / kRows;
  for (int64_t n = 0; n < apart; ++n) gemv<F, T, kRows>(m, n, apart);
  for (int64_t n = apart * kRows; n < m.n_rows; ++n) gemv<F, T, 1>(m, n, 0);
}

template <Format F>
void gemv_tokens(const Matmul& m) {
  switch (m.n_tokens) {
    case 1:
      return gemv_all<F, 1>(m);
    case 2:
      return gemv_all<F, 2>(m);
    case 3:
      return gemv_all<F, 3>(m);
    default:
      return gemv_all<F, 4>(m);
  }
}

/// Where a register block's operands and sums are.
struct Block {
  const float* x;
  int64_t x_stride;
  const float* w;
  int64_t w_stride;
  int64_t n;   // columns, a multiple of kLanes
  float* acc;  // [tokens][kTileRows][kLanes]
  bool first;  // chunk
};

template <int T, int R>
void multiply(const Block& b) {
  V acc[T][R];
  if (b.first) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[t][r] = set(0);
    }
  } else {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[t][r] = load(b.acc + (t * kTileRows + r) * kLanes);
    }
  }
  for (int64_t i = 0; i < b.n; i += kLanes) {
    V w[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) w[r] = load(b.w + r * b.w_stride + i);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const V x = load(b.x + t * b.x_stride + i);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[t][r] = fma(w[r], x, acc[t][r]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store(b.acc + (t * kTileRows + r) * kLanes, acc[t][r]);
  }
}

using Multiply = void (*)(const Block&);

template <int T>
Multiply pick(int64_t rows) {
  switch (rows) {
    case 1:
      return multiply<T, 1>;
    case 2:
      return multiply<T, 2>;
    case 3:
      return multiply<T, 3>;
    case 4:
      return multiply<T, 4>;
    case 5:
      return multiply<T, 5>;
    default:
      return multiply<T, 6>;
  }
}

Multiply pick(int64_t tokens, int64_t rows) {
  switch (tokens) {
    case 1:
      return pick<1>(rows);
    case 2:
      return pick<2>(rows);
    case 3:
      return pick<3>(rows);
    default:
      return pick<4>(rows);
  }
}

/// n <= kDecodeRows rows from r0 on, columns [k0, k0 + columns), as f32 with zeros up to `padded`.
void decode_tile(const RowBlock& w, int64_t r0, int64_t n, int64_t k0, int64_t columns, int64_t padded, float* to) {
  RowBlock part = w;
  part.data += static_cast<size_t>(r0) * w.row_bytes + static_cast<size_t>(k0 / w.block_elems) * w.block_bytes;
  for (int64_t r = 0; r < n; ++r, part.data += w.row_bytes, to += kChunkStride) {
    decode(part, to, columns);
    for (int64_t i = columns; i < padded; ++i) to[i] = 0;
  }
}

constexpr int64_t kAskLines = 16;  // a block of tokens: f16 tiles are done after 48 tokens

/// The stored bytes of the tile to decode next, asked for bit by bit while the one before is multiplied.
class Ahead {
 public:
  Ahead(const RowBlock& w, int64_t r0, int64_t n, int64_t k0, int64_t columns)
      : from_(w.data + static_cast<size_t>(r0) * w.row_bytes + static_cast<size_t>(k0 / w.block_elems) * w.block_bytes),
        row_bytes_(w.row_bytes),
        line_end_(columns / w.block_elems * w.block_bytes),
        rows_(n) {}

  void ask(int64_t lines) {
    for (; lines > 0 && row_ < rows_; --lines) {
      _mm_prefetch(reinterpret_cast<const char*>(from_ + static_cast<size_t>(row_) * row_bytes_ + line_), _MM_HINT_T1);
      line_ += 64;
      if (line_ < line_end_) continue;
      line_ = 0;
      ++row_;
    }
  }

 private:
  const std::byte* from_;
  size_t row_bytes_;
  int64_t line_end_, rows_, row_ = 0, line_ = 0;
};

/// Tokens [t0, t0 + n_tokens) and all rows, at most a tile of each: chunk of columns by chunk, so that the tokens' part
/// of it stays near for all rows.
void tile(const Matmul& m, int64_t t0, int64_t n_tokens) {
  float* w_tile = reinterpret_cast<float*>(m.scratch);
  float* x_tile = w_tile + kDecodeRows * kChunkStride;
  float* acc = x_tile + kTokenTile * kChunkStride;
  for (int64_t k0 = 0; k0 < m.k; k0 += kChunk) {
    const int64_t n = least(kChunk, m.k - k0), padded = (n + kLanes - 1) / kLanes * kLanes;
    const float* x = m.x + t0 * m.x_stride + k0;
    int64_t x_stride = m.x_stride;
    if (padded != n) {
      for (int64_t t = 0; t < n_tokens; ++t) {
        float* row = x_tile + t * kChunkStride;
        std::memcpy(row, x + t * x_stride, static_cast<size_t>(n) * sizeof(float));
        for (int64_t i = n; i < padded; ++i) row[i] = 0;
      }
      x = x_tile;
      x_stride = kChunkStride;
    }
    for (int64_t r0 = 0; r0 < m.n_rows; r0 += kDecodeRows) {
      const int64_t n_rows = least(kDecodeRows, m.n_rows - r0);
      decode_tile(m.w, r0, n_rows, k0, n, padded, w_tile);
      const bool next_rows = r0 + kDecodeRows < m.n_rows;
      Ahead ahead = next_rows ? Ahead(m.w, r0 + kDecodeRows, least(kDecodeRows, m.n_rows - r0 - kDecodeRows), k0, n)
                              : Ahead(m.w, 0, least(kDecodeRows, m.n_rows), k0 + n, least(kChunk, m.k - k0 - n));
      for (int64_t t = 0; t < n_tokens; t += kBlockTokens) {
        ahead.ask(kAskLines);
        for (int64_t r = 0; r < n_rows; r += kBlockRows) {
          pick(least(kBlockTokens, n_tokens - t),
               least(kBlockRows, n_rows - r))({.x = x + t * x_stride,
                                               .x_stride = x_stride,
                                               .w = w_tile + r * kChunkStride,
                                               .w_stride = kChunkStride,
                                               .n = padded,
                                               .acc = acc + (t * kTileRows + r0 + r) * kLanes,
                                               .first = k0 == 0});
        }
      }
    }
  }
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t r = 0; r < m.n_rows; ++r) {
      m.out[(t0 + t) * m.out_stride + r] = sum(load(acc + (t * kTileRows + r) * kLanes));
    }
  }
}

}  // namespace

void matmul(const Matmul& m) {
  if (m.n_tokens <= 0) return;
  if (m.n_tokens <= kGemvTokens && m.k % kLanes == 0) {
    switch (m.w.format) {
      case Format::f32:
        return gemv_tokens<Format::f32>(m);
      case Format::f16:
        return gemv_tokens<Format::f16>(m);
      case Format::bf16:
        return gemv_tokens<Format::bf16>(m);
      case Format::q8_0:
        return gemv_tokens<Format::q8_0>(m);
      case Format::q4_0:
        return gemv_tokens<Format::q4_0>(m);
      default:
        break;
    }
  }
  for (int64_t r = 0; r < m.n_rows; r += kTileRows) {
    Matmul rows = m;
    rows.w.data += static_cast<size_t>(r) * m.w.row_bytes;
    rows.n_rows = least(kTileRows, m.n_rows - r);
    rows.out += r;
    for (int64_t t = 0; t < m.n_tokens; t += kTokenTile) tile(rows, t, least(kTokenTile, m.n_tokens - t));
  }
}

}  // namespace weft::cpu::WEFT_ISA
