// Pages of the KV cache, as attention reads them: keys turned, so that lanes are keys and scores need no sum over
// lanes; values weighed and added up. Formats that a Loader knows are decoded in registers, for few queries not even
// stored; each element of the result is the same arithmetic either way.
//
// Few queries wait for memory while they are multiplied: that is when the next page is asked for, line by line. Asked
// for while keys are turned, it would hold the line fill buffers that the turning needs.
#include "backends/cpu/isa/decode.h"
#include "backends/cpu/isa/kernels.h"

namespace weft::cpu::WEFT_ISA {
namespace {

#if defined(__AVX512F__)

/// t[i][j] = t[j][i].
WEFT_INLINE void turn(V (&t)[16]) {
  V a[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {  // within 128 bits: lane 4 b + c of a[i + r] is column 4 b + r of row i + c
    const __m512d ab_low = _mm512_castps_pd(_mm512_unpacklo_ps(t[i], t[i + 1]));
    const __m512d ab_high = _mm512_castps_pd(_mm512_unpackhi_ps(t[i], t[i + 1]));
    const __m512d cd_low = _mm512_castps_pd(_mm512_unpacklo_ps(t[i + 2], t[i + 3]));
    const __m512d cd_high = _mm512_castps_pd(_mm512_unpackhi_ps(t[i + 2], t[i + 3]));
    a[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low));
    a[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low));
    a[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high));
    a[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high));
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {  // then the 4 x 4 blocks of 128 bits
    const V even_low = _mm512_shuffle_f32x4(a[r], a[r + 4], 0x88), odd_low = _mm512_shuffle_f32x4(a[r], a[r + 4], 0xdd);
    const V even_high = _mm512_shuffle_f32x4(a[r + 8], a[r + 12], 0x88);
    const V odd_high = _mm512_shuffle_f32x4(a[r + 8], a[r + 12], 0xdd);
    t[r] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    t[r + 4] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    t[r + 8] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
    t[r + 12] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
  }
}

#elif defined(__AVX2__)

WEFT_INLINE void turn(V (&t)[8]) {
  V a[8];
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    const __m256d ab_low = _mm256_castps_pd(_mm256_unpacklo_ps(t[i], t[i + 1]));
    const __m256d ab_high = _mm256_castps_pd(_mm256_unpackhi_ps(t[i], t[i + 1]));
    const __m256d cd_low = _mm256_castps_pd(_mm256_unpacklo_ps(t[i + 2], t[i + 3]));
    const __m256d cd_high = _mm256_castps_pd(_mm256_unpackhi_ps(t[i + 2], t[i + 3]));
    a[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_low, cd_low));
    a[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_low, cd_low));
    a[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_high, cd_high));
    a[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_high, cd_high));
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    t[r] = _mm256_permute2f128_ps(a[r], a[r + 4], 0x20);
    t[r + 4] = _mm256_permute2f128_ps(a[r], a[r + 4], 0x31);
  }
}

#else

WEFT_INLINE void turn(V (&t)[4]) { _MM_TRANSPOSE4_PS(t[0], t[1], t[2], t[3]); }

#endif

WEFT_INLINE void prefetch(const std::byte* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1); }

/// f(column, lanes): column by column of keys [first, first + kLanes), which are its lanes. d a multiple of a step.
/// Each key asks for as many bytes of what is read next.
template <Format F, typename Use>
WEFT_INLINE void turn_keys(const Page& page, int64_t first, int64_t d, Use use) {
  constexpr int kStep = Loader<F>::kStep, kVectors = kStep / kLanes;
  const size_t row_bytes = page.rows.row_bytes;
  const std::byte* const keys = page.rows.data + static_cast<size_t>(first) * row_bytes;
  const std::byte* const next = page.next ? page.next + static_cast<size_t>(first) * row_bytes : nullptr;
  for (int64_t j = 0; j < d; j += kStep) {
    if (next && j % Loader<F>::kLine == 0) {
      const std::byte* line = next + j / kStep * Loader<F>::kBytes;
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r, line += row_bytes) prefetch(line);
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      V t[kLanes];
      const std::byte* row = keys;
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r, row += row_bytes) {
        V values[kVectors];
        Loader<F>::at(row, j, values);
        t[r] = values[v];
      }
      turn(t);
#pragma GCC unroll 16
      for (int l = 0; l < kLanes; ++l) use(j + v * kLanes + l, t[l]);
    }
  }
}

/// Scores of R queries and kLanes keys, as weigh_rows would add them up.
template <Format F, int R>
void score_keys(float* scores, int64_t stride, const float* q, const Page& page, int64_t first, int64_t d) {
  V acc[R];
  for (int r = 0; r < R; ++r) acc[r] = set(0);
  turn_keys<F>(page, first, d, [&](int64_t column, V keys) WEFT_LAMBDA {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) acc[r] = fma(set(q[r * d + column]), keys, acc[r]);
  });
  for (int r = 0; r < R; ++r) store(scores + r * stride + first, acc[r]);
}

/// p, which the compiler takes for new: it would keep an address for each row it has seen, more than there are
/// registers.
WEFT_INLINE const std::byte* forget(const std::byte* p) {
  asm("" : "+r"(p));
  return p;
}

typedef uint32_t Pairs __attribute__((vector_size(sizeof(V))));

constexpr int64_t kTurnedKeys = 64;  // that are turned before they are multiplied

/// 2 kLanes two-byte keys from `keys` on, row_bytes apart, turned as they are: column c of them to `to` + c *
/// kTurnedKeys. d a multiple of 2 kLanes. Even and odd keys are turned apart, two columns a lane, and then put
/// together: half the moves.
WEFT_INLINE void turn_pairs(const std::byte* keys, size_t row_bytes, int64_t d, uint16_t* to) {
  for (int64_t column = 0; column < d; column += 2 * kLanes, keys += sizeof(V), to += 2 * kLanes * kTurnedKeys) {
    V turned[2][kLanes];
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      V t[kLanes];
      const std::byte* row = forget(keys + static_cast<size_t>(odd) * row_bytes);
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r, row = forget(row + 2 * row_bytes)) t[r] = load_as<V>(row);
      turn(t);
#pragma GCC unroll 16
      for (int l = 0; l < kLanes; ++l) turned[odd][l] = t[l];
    }
#pragma GCC unroll 16
    for (int l = 0; l < kLanes; ++l) {
      const Pairs even = (Pairs)turned[0][l], odd = (Pairs)turned[1][l];
      const Pairs low = (even & 0xFFFF) | (odd << 16), high = (even >> 16) | (odd & 0xFFFF0000);
      __builtin_memcpy(to + 2 * l * kTurnedKeys, &low, sizeof low);
      __builtin_memcpy(to + (2 * l + 1) * kTurnedKeys, &high, sizeof high);
    }
  }
}

/// What is asked for meanwhile.
struct Ask {
  const std::byte* from;
  size_t bytes;
};

/// Rows r of y as weigh_rows has them, the page's rows decoded in registers: once for every R rows of y. keep may be
/// null.
template <Format F, int R, int C>
void weigh_stored(float* y, const float* keep, const float* p, int64_t p_stride, const RowBlock& rows, int64_t n,
                  int64_t column, int64_t y_stride, Ask ask) {
  constexpr int kStep = Loader<F>::kStep, kVectors = kStep / kLanes;
  constexpr size_t kAsks = (C / kVectors * Loader<F>::kBytes + 63) / 64;  // a row
  V acc[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc[r][c] = keep ? load(y + r * y_stride + column + c * kLanes) * set(keep[r]) : set(0);
  }
  const size_t row_bytes = rows.row_bytes, ask_bytes = ask.bytes / static_cast<size_t>(n), apart = ask_bytes / kAsks;
  const std::byte *row = rows.data + column / kStep * Loader<F>::kBytes, *next = ask.from;
  for (int64_t j = 0; j < n; ++j, row += row_bytes, next += ask_bytes) {
#pragma GCC unroll 8
    for (size_t i = 0; i < kAsks; ++i) prefetch(next + i * apart);
    V value[C];
#pragma GCC unroll 8
    for (int s = 0; s < C / kVectors; ++s) {
      V step[kVectors];
      Loader<F>::at(row, s * kStep, step);
      for (int v = 0; v < kVectors; ++v) value[s * kVectors + v] = step[v];
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const V weight = set(p[r * p_stride + j]);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) acc[r][c] = fma(weight, value[c], acc[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) store(y + r * y_stride + column + c * kLanes, acc[r][c]);
  }
}

/// The first `columns` of n rows, whole steps; rows of y are y_stride apart.
template <Format F>
void weigh_as(float* y, int64_t y_stride, const float* keep, const float* p, int64_t p_stride, int64_t n_rows,
              const RowBlock& rows, int64_t n, int64_t columns, Ask ask) {
  constexpr int kVectors = Loader<F>::kStep / kLanes, kFit = kLanes == 16 ? 4 : 2;
  constexpr int kWide = kVectors > kFit ? kVectors : kFit, kRows = kWide > kFit ? 2 : 4;
  const int64_t parts = (columns + kWide * kLanes - 1) / (kWide * kLanes);
  size_t part = ask.bytes / static_cast<size_t>(parts);
  const auto weigh = [&](int64_t r, auto count) {
    constexpr int R = decltype(count)::value;
    const auto of = [&](auto vectors, int64_t column) {
      weigh_stored<F, R, decltype(vectors)::value>(y + r * y_stride, keep ? keep + r : nullptr, p + r * p_stride,
                                                   p_stride, rows, n, column, y_stride, {ask.from, part});
      ask.from += part;
    };
    int64_t column = 0;
    for (; column + kWide * kLanes <= columns; column += kWide * kLanes) of(Count<kWide>{}, column);
    for (; column < columns; column += Loader<F>::kStep) of(Count<kVectors>{}, column);
    part = 0;  // all is asked for
  };
  int64_t r = 0;
  for (; r + kRows <= n_rows; r += kRows) weigh(r, Count<kRows>{});
  for (; r < n_rows; ++r) weigh(r, Count<1>{});
}

int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

/// The page's rows as f32 in `to`, padded(d) apart, zeros from d on.
void decode_rows(const Page& page, int64_t d, float* to) {
  const int64_t stride = padded(d);
  RowBlock row = page.rows;
  for (int64_t j = 0; j < page.n; ++j, row.data += row.row_bytes, to += stride) {
    for (size_t line = 0; page.next && line < row.row_bytes; line += 64)
      prefetch(page.next + static_cast<size_t>(j) * row.row_bytes + line);
    decode(row, to, d);
    for (int64_t i = d; i < stride; ++i) to[i] = 0;
  }
}

template <Format F>
struct Of {
  static constexpr Format value = F;
};

/// run(Of<its format>) if a Loader knows the page's format, and its rows of d elements are whole steps; whether so.
template <typename Run>
bool with_loader(const Page& page, int64_t d, Run run) {
  const auto fits = [&](auto format) {
    if (d % 16 != 0 || d % Loader<decltype(format)::value>::kStep != 0) return false;
    run(format);
    return true;
  };
  switch (page.rows.format) {
    case Format::f32:
      return fits(Of<Format::f32>{});
    case Format::f16:
      return fits(Of<Format::f16>{});
    case Format::bf16:
      return fits(Of<Format::bf16>{});
    case Format::q8_0:
      return fits(Of<Format::q8_0>{});
    default:
      return false;
  }
}

/// As many bytes of what is wanted after the page, from `skipped` on. Where nothing is: what is there already.
Ask ask_for(const Page& page, size_t skipped, size_t bytes) {
  return {(page.next ? page.next : page.rows.data) + skipped, bytes};
}

constexpr int64_t kFew = 8;  // queries for which decoding again is less than storing

}  // namespace

// The keys turned, then what is decoded.
size_t page_scratch(int64_t size, int64_t d) {
  return sizeof(float) * static_cast<size_t>(2 * padded(size) * padded(d));
}

void score_page(float* scores, const float* q, int64_t n_rows, const Page& page, int64_t d, std::byte* scratch) {
  const int64_t q_stride = padded(d), stride = padded(page.size);
  constexpr int64_t kPairs = 2 * kLanes;
  const bool few = n_rows <= kFew;
  const auto score_pairs = [&](auto format) {
    constexpr Format F = decltype(format)::value;
    const size_t row_bytes = page.rows.row_bytes;
    const RowBlock turned{scratch, kTurnedKeys * 2, F, 1, 2, nullptr};
    for (int64_t first = 0; first < page.n; first += kTurnedKeys) {
      const size_t skipped = static_cast<size_t>(first) * row_bytes;
      int64_t n = 0;
      for (; n < kTurnedKeys && first + n < page.n; n += kPairs) {
        turn_pairs(page.rows.data + skipped + static_cast<size_t>(n) * row_bytes, row_bytes, d,
                   reinterpret_cast<uint16_t*>(scratch) + n);
      }
      weigh_as<F>(scores + first, stride, nullptr, q, q_stride, n_rows, turned, d, n,
                  ask_for(page, skipped, static_cast<size_t>(n) * row_bytes));
    }
  };
  // The last keys' vectors may reach past n, not past the page.
  if (few && page.size % kPairs == 0 && d % kPairs == 0) {
    if (page.rows.format == Format::f16) return score_pairs(Of<Format::f16>{});
    if (page.rows.format == Format::bf16) return score_pairs(Of<Format::bf16>{});
  }

  float *const turned = reinterpret_cast<float*>(scratch), *const decoded = turned + d * stride;
  const auto score = [&](auto format) {
    constexpr Format F = decltype(format)::value;
    for (int64_t first = 0; first < page.n; first += kLanes) {
      int64_t r = 0;
      for (; r + 4 <= n_rows; r += 4) score_keys<F, 4>(scores + r * stride, stride, q + r * q_stride, page, first, d);
      for (; r < n_rows; ++r) score_keys<F, 1>(scores + r * stride, stride, q + r * q_stride, page, first, d);
    }
  };
  const auto turn = [&](auto format) {
    for (int64_t first = 0; first < page.n; first += kLanes) {
      turn_keys<decltype(format)::value>(
          page, first, d, [&](int64_t column, V keys) WEFT_LAMBDA { store(turned + column * stride + first, keys); });
    }
  };
  const bool whole = page.size % 16 == 0;
  if (few && whole && with_loader(page, d, score)) return;
  if (!whole || !with_loader(page, d, turn)) {
    decode_rows(page, d, decoded);
    for (int64_t j = 0; j < d; ++j) {
      for (int64_t i = 0; i < page.n; ++i) turned[j * stride + i] = decoded[i * q_stride + j];
    }
  }
  weigh_rows(scores, nullptr, q, q_stride, n_rows, turned, stride, d, stride);
}

void weigh_page(float* y, const float* keep, const float* p, int64_t n_rows, const Page& page, int64_t d,
                std::byte* scratch) {
  const int64_t y_stride = padded(d), p_stride = padded(page.size);
  const auto weigh = [&](auto format) {
    weigh_as<decltype(format)::value>(y, y_stride, keep, p, p_stride, n_rows, page.rows, page.n, d,
                                      ask_for(page, 0, static_cast<size_t>(page.n) * page.rows.row_bytes));
  };
  if (n_rows <= kFew && with_loader(page, d, weigh)) return;
  const float* values = reinterpret_cast<float*>(scratch);
  if (page.rows.format == Format::f32 && y_stride == d) values = reinterpret_cast<const float*>(page.rows.data);
  else decode_rows(page, d, reinterpret_cast<float*>(scratch));
  weigh_rows(y, keep, p, p_stride, n_rows, values, y_stride, page.n, y_stride);
}

}  // namespace weft::cpu::WEFT_ISA
