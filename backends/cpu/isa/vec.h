// One vector of floats of the instruction set this file is compiled for, and the few operations the kernels need.
// Arithmetic order is part of the contract: sum() adds the lanes in one fixed tree.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "backends/cpu/isa/isa.h"

#ifndef WEFT_ISA
#error "compiled per instruction set with -DWEFT_ISA=sse2|avx2|avxvnni|avx512|avx512bf16|amx (backends/CMakeLists.txt)"
#endif

#if !defined(WEFT_SANITIZED)
#define WEFT_INLINE inline __attribute__((always_inline))
#define WEFT_LAMBDA __attribute__((always_inline))
#else  // each sanitizer's check once, not at every place of use: minutes a file
#define WEFT_INLINE inline
#define WEFT_LAMBDA
#endif

namespace weft::cpu::WEFT_ISA {

WEFT_INLINE float sum4(__m128 v) {
  const __m128 pair = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
WEFT_INLINE float max4(__m128 v) {
  const __m128 pair = _mm_max_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

template <typename T>
WEFT_INLINE T load_as(const void* p) {
  T value;
  __builtin_memcpy(&value, p, sizeof value);
  return value;
}

#if defined(__AVX512F__)

using V = __m512;
constexpr int kLanes = 16;
constexpr int kBlockTokens = 4, kBlockRows = 6;  // register block of the matmul: 24 of 32 registers accumulate

WEFT_INLINE V load(const float* p) { return _mm512_loadu_ps(p); }
WEFT_INLINE void store(float* p, V v) { _mm512_storeu_ps(p, v); }
WEFT_INLINE V set(float x) { return _mm512_set1_ps(x); }
WEFT_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
WEFT_INLINE V vmax(V a, V b) { return _mm512_max_ps(a, b); }
WEFT_INLINE V vmin(V a, V b) { return _mm512_min_ps(a, b); }
WEFT_INLINE __m256 fold(V v) { return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }
WEFT_INLINE float sum(V v) {
  const __m256 half = fold(v);
  return sum4(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
WEFT_INLINE float max_of(V v) {
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  return max4(_mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
WEFT_INLINE V load_f16(const std::byte* p) { return _mm512_cvtph_ps(load_as<__m256i>(p)); }
WEFT_INLINE V load_bf16(const std::byte* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_as<__m256i>(p)), 16));
}
WEFT_INLINE V load_i8(const std::byte* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_as<__m128i>(p))); }
/// 16 bytes of nibbles -> 32 values d * (q - 8), low nibbles first. The product is exact, so a table of it is too.
WEFT_INLINE void load_q4(const std::byte* p, V d, V (&out)[2]) {
  const V levels = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
  const V table = _mm512_mul_ps(levels, d);
  const __m512i bytes = _mm512_cvtepu8_epi32(load_as<__m128i>(p));
  out[0] = _mm512_permutexvar_ps(bytes, table);  // reads the low four bits of an index
  out[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), table);
}

#elif defined(__AVX2__)

using V = __m256;
constexpr int kLanes = 8;
constexpr int kBlockTokens = 3, kBlockRows = 4;  // 12 of 16 registers accumulate

WEFT_INLINE V load(const float* p) { return _mm256_loadu_ps(p); }
WEFT_INLINE void store(float* p, V v) { _mm256_storeu_ps(p, v); }
WEFT_INLINE V set(float x) { return _mm256_set1_ps(x); }
WEFT_INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
WEFT_INLINE V vmax(V a, V b) { return _mm256_max_ps(a, b); }
WEFT_INLINE V vmin(V a, V b) { return _mm256_min_ps(a, b); }
WEFT_INLINE float sum(V v) { return sum4(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1))); }
WEFT_INLINE float max_of(V v) { return max4(_mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1))); }
WEFT_INLINE V load_f16(const std::byte* p) { return _mm256_cvtph_ps(load_as<__m128i>(p)); }
WEFT_INLINE V load_bf16(const std::byte* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_as<__m128i>(p)), 16));
}
WEFT_INLINE V load_i8(const std::byte* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
WEFT_INLINE V from_nibbles(__m128i bytes, V d) {
  return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), d);
}
/// 16 bytes of nibbles -> 32 values d * (q - 8), low nibbles first.
WEFT_INLINE void load_q4(const std::byte* p, V d, V (&out)[4]) {
  const __m128i bytes = load_as<__m128i>(p), mask = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
  const __m128i low = _mm_sub_epi8(_mm_and_si128(bytes, mask), eight);
  const __m128i high = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask), eight);
  out[0] = from_nibbles(low, d);
  out[1] = from_nibbles(_mm_unpackhi_epi64(low, low), d);
  out[2] = from_nibbles(high, d);
  out[3] = from_nibbles(_mm_unpackhi_epi64(high, high), d);
}

#else

using V = __m128;
constexpr int kLanes = 4;
constexpr int kBlockTokens = 3, kBlockRows = 4;

WEFT_INLINE V load(const float* p) { return _mm_loadu_ps(p); }
WEFT_INLINE void store(float* p, V v) { _mm_storeu_ps(p, v); }
WEFT_INLINE V set(float x) { return _mm_set1_ps(x); }
WEFT_INLINE V fma(V a, V b, V c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }  // rounds twice: no FMA here
WEFT_INLINE V vmax(V a, V b) { return _mm_max_ps(a, b); }
WEFT_INLINE V vmin(V a, V b) { return _mm_min_ps(a, b); }
WEFT_INLINE float sum(V v) { return sum4(v); }
WEFT_INLINE float max_of(V v) { return max4(v); }
/// binary16 in the low half of each lane: shifted into place its exponent is 112 too small, which a multiplication
/// corrects exactly, subnormals included; infinity and NaN need their exponent restored.
WEFT_INLINE V from_f16(__m128i h) {
  const __m128i magnitude = _mm_slli_epi32(_mm_and_si128(h, _mm_set1_epi32(0x7FFF)), 13);
  const __m128i sign = _mm_slli_epi32(_mm_and_si128(h, _mm_set1_epi32(0x8000)), 16);
  const __m128i special = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x0F7FFFFF));
  const __m128 scaled = _mm_mul_ps(_mm_castsi128_ps(magnitude), _mm_set1_ps(0x1p112f));
  const __m128i fixed = _mm_and_si128(special, _mm_set1_epi32(0x7F800000));
  return _mm_or_ps(scaled, _mm_castsi128_ps(_mm_or_si128(sign, fixed)));
}
WEFT_INLINE V load_f16(const std::byte* p) {
  return from_f16(_mm_unpacklo_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), _mm_setzero_si128()));
}
WEFT_INLINE V load_bf16(const std::byte* p) {
  return _mm_castsi128_ps(
      _mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
/// Four signed bytes in the low lane.
WEFT_INLINE V from_i8(__m128i bytes) {
  const __m128i words = _mm_unpacklo_epi8(bytes, bytes);
  return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(words, words), 24));
}
WEFT_INLINE V load_i8(const std::byte* p) { return from_i8(_mm_cvtsi32_si128(load_as<int32_t>(p))); }
/// 16 bytes of nibbles -> 32 values d * (q - 8), low nibbles first.
WEFT_INLINE void load_q4(const std::byte* p, V d, V (&out)[8]) {
  const __m128i bytes = load_as<__m128i>(p), mask = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
  __m128i low = _mm_sub_epi8(_mm_and_si128(bytes, mask), eight);
  __m128i high = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask), eight);
  for (int i = 0; i < 4; ++i) {
    out[i] = _mm_mul_ps(from_i8(low), d);
    out[i + 4] = _mm_mul_ps(from_i8(high), d);
    low = _mm_srli_si128(low, 4);
    high = _mm_srli_si128(high, 4);
  }
}

#endif

WEFT_INLINE V set_f16(const std::byte* p) { return set(kF16.values[load_as<uint16_t>(p)]); }

/// How elements of a format are loaded: kStep at a time (kBytes), as kStep / kLanes vectors. A prefetch each kLine
/// elements touches every line.
template <Format F>
struct Loader;

template <>
struct Loader<Format::f32> {
  static constexpr int kStep = kLanes, kBytes = kLanes * 4, kLine = 16;
  static WEFT_INLINE void at(const std::byte* row, int64_t k, V (&out)[1]) {
    out[0] = load(reinterpret_cast<const float*>(row) + k);
  }
};
template <>
struct Loader<Format::f16> {
  static constexpr int kStep = kLanes, kBytes = kLanes * 2, kLine = 32;
  static WEFT_INLINE void at(const std::byte* row, int64_t k, V (&out)[1]) { out[0] = load_f16(row + k * 2); }
};
template <>
struct Loader<Format::bf16> {
  static constexpr int kStep = kLanes, kBytes = kLanes * 2, kLine = 32;
  static WEFT_INLINE void at(const std::byte* row, int64_t k, V (&out)[1]) { out[0] = load_bf16(row + k * 2); }
};
template <>
struct Loader<Format::q8_0> {
  static constexpr int kStep = 32, kBytes = 34, kLine = 64;
  static WEFT_INLINE void at(const std::byte* row, int64_t k, V (&out)[32 / kLanes]) {
    const std::byte* block = row + k / 32 * 34;
    const V d = set_f16(block);
    for (int i = 0; i < 32 / kLanes; ++i) out[i] = load_i8(block + 2 + i * kLanes) * d;
  }
};
template <>
struct Loader<Format::q4_0> {
  static constexpr int kStep = 32, kBytes = 18, kLine = 64;
  static WEFT_INLINE void at(const std::byte* row, int64_t k, V (&out)[32 / kLanes]) {
    const std::byte* block = row + k / 32 * 18;
    load_q4(block + 2, set_f16(block), out);
  }
};

}  // namespace weft::cpu::WEFT_ISA
