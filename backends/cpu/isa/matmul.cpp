// out[t, n] = dot(x[t, :], w[n, :]).
//
// Every output element is the same arithmetic whatever the number of tokens, rows, tiles or threads: one vector of
// kLanes partial sums over ascending k, lane l taking the elements k = l mod kLanes, then sum(). The decoded values
// are the format's own (Loader and RowBlock::decode agree to the bit). So logits do not depend on how work was split.
//
// Up to four tokens: several rows at once, decoded in registers, one accumulator for each row and token, each row's
// stream prefetched 512 bytes ahead. Bound by memory; q4_0 by decoding.
// More tokens: a tile of kDecodeRows rows x kChunk columns is decoded once into L1/L2 and multiplied with all tokens of
// a tile by a register block of kBlockTokens x kBlockRows accumulators; between chunks of columns the accumulators wait
// in scratch. Bound by the FMA units.
#include "backends/cpu/isa/decode.h"
#include "backends/cpu/isa/kernels.h"

namespace weft::cpu::WEFT_ISA {
namespace {

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

constexpr int64_t kGemvTokens = 4;

/// Rows at once for so many tokens: T x R accumulators, and the decoded vectors, in registers.
constexpr int gemv_rows(int tokens) {
  if (tokens == 1) return 8;
  return kLanes == 16 ? (tokens == 2 ? 8 : 4) : (tokens == 2 ? 4 : 2);
}

template <Format F, int T, int R>
void gemv(const Matmul& m, int64_t first) {
  constexpr int kStep = Loader<F>::kStep, kVectors = kStep / kLanes;
  constexpr size_t kAhead = 512;  // bytes, of each row's own stream
  const size_t row_bytes = m.w.row_bytes;
  const std::byte* w = m.w.data + static_cast<size_t>(first) * row_bytes;
  V acc[T][R];
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < R; ++r) acc[t][r] = set(0);
  }
  for (int64_t i = 0; i < m.k; i += kStep) {
    if (i % Loader<F>::kLine == 0) {  // prefetching past the weight is harmless: it never faults
      size_t ahead = static_cast<size_t>(i / kStep) * Loader<F>::kBytes + kAhead;
      if (ahead >= row_bytes) ahead += (R - 1) * row_bytes;  // the row that follows is being read: go on R rows later
      for (int r = 0; r < R; ++r) {
        _mm_prefetch(reinterpret_cast<const char*>(w + static_cast<size_t>(r) * row_bytes + ahead), _MM_HINT_T0);
      }
    }
    V xs[T][kVectors];
    for (int t = 0; t < T; ++t) {
      for (int v = 0; v < kVectors; ++v) xs[t][v] = load(m.x + t * m.x_stride + i + v * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      V ws[kVectors];
      Loader<F>::at(w + static_cast<size_t>(r) * row_bytes, i, ws);
      for (int t = 0; t < T; ++t) {
        for (int v = 0; v < kVectors; ++v) acc[t][r] = fma(ws[v], xs[t][v], acc[t][r]);
      }
    }
  }
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < R; ++r) m.out[t * m.out_stride + first + r] = sum(acc[t][r]);
  }
}

template <Format F, int T>
void gemv_all(const Matmul& m) {
  int64_t n = 0;
  for (; n + gemv_rows(T) <= m.n_rows; n += gemv_rows(T)) gemv<F, T, gemv_rows(T)>(m, n);
  for (; n < m.n_rows; ++n) gemv<F, T, 1>(m, n);
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

/// Where a register block's operands and results are.
struct Block {
  const float* x;
  int64_t x_stride;
  const float* w;
  int64_t w_stride;
  int64_t n;   // columns, a multiple of kLanes
  float* acc;  // [tokens][kDecodeRows][kLanes]
  float* out;
  int64_t out_stride;
  bool first, last;  // chunk
};

template <int T, int R>
void multiply(const Block& b) {
  V acc[T][R];
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < R; ++r) acc[t][r] = b.first ? set(0) : load(b.acc + (t * kDecodeRows + r) * kLanes);
  }
  for (int64_t i = 0; i < b.n; i += kLanes) {
    V w[R];
    for (int r = 0; r < R; ++r) w[r] = load(b.w + r * b.w_stride + i);
    for (int t = 0; t < T; ++t) {
      const V x = load(b.x + t * b.x_stride + i);
      for (int r = 0; r < R; ++r) acc[t][r] = fma(w[r], x, acc[t][r]);
    }
  }
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < R; ++r) {
      if (b.last) {
        b.out[t * b.out_stride + r] = sum(acc[t][r]);
      } else {
        store(b.acc + (t * kDecodeRows + r) * kLanes, acc[t][r]);
      }
    }
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

/// Tokens and rows of one tile of each.
void tile(const Matmul& m, int64_t t0, int64_t n_tokens, int64_t r0, int64_t n_rows) {
  float* w_tile = reinterpret_cast<float*>(m.scratch);
  float* x_tile = w_tile + kDecodeRows * kChunkStride;
  float* acc = x_tile + kTokenTile * kChunkStride;
  const RowBlock& w = m.w;
  for (int64_t k0 = 0; k0 < m.k; k0 += kChunk) {
    const int64_t n = least(kChunk, m.k - k0), padded = (n + kLanes - 1) / kLanes * kLanes;
    RowBlock part = w;
    for (int64_t r = 0; r < n_rows; ++r) {
      part.data =
          w.data + static_cast<size_t>(r0 + r) * w.row_bytes + static_cast<size_t>(k0 / w.block_elems) * w.block_bytes;
      float* row = w_tile + r * kChunkStride;
      decode(part, row, n);
      for (int64_t i = n; i < padded; ++i) row[i] = 0;
    }
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
    for (int64_t r = 0; r < n_rows; r += kBlockRows) {
      for (int64_t t = 0; t < n_tokens; t += kBlockTokens) {
        pick(least(kBlockTokens, n_tokens - t),
             least(kBlockRows, n_rows - r))({.x = x + t * x_stride,
                                             .x_stride = x_stride,
                                             .w = w_tile + r * kChunkStride,
                                             .w_stride = kChunkStride,
                                             .n = padded,
                                             .acc = acc + (t * kDecodeRows + r) * kLanes,
                                             .out = m.out + (t0 + t) * m.out_stride + r0 + r,
                                             .out_stride = m.out_stride,
                                             .first = k0 == 0,
                                             .last = k0 + kChunk >= m.k});
      }
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
  for (int64_t t = 0; t < m.n_tokens; t += kTokenTile) {
    for (int64_t r = 0; r < m.n_rows; r += kDecodeRows) {
      tile(m, t, least(kTokenTile, m.n_tokens - t), r, least(kDecodeRows, m.n_rows - r));
    }
  }
}

}  // namespace weft::cpu::WEFT_ISA
