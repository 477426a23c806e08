// Integer vectors as wide as V, and dot products of four bytes a lane. Lanes are rows of a packed weight; a unit of 64
// bytes is one vector in AVX-512, two (`half` 0 and 1) in AVX2.
#pragma once

#include "backends/cpu/isa/vec.h"

namespace weft::cpu::WEFT_ISA {

#if defined(__AVX512F__)

using I = __m512i;

WEFT_INLINE I zero_i() { return _mm512_setzero_si512(); }
WEFT_INLINE I set_i8(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
WEFT_INLINE I set_i32(int v) { return _mm512_set1_epi32(v); }
WEFT_INLINE I and_i(I a, I b) { return _mm512_and_si512(a, b); }
WEFT_INLINE I or_i(I a, I b) { return _mm512_or_si512(a, b); }
WEFT_INLINE I xor_i(I a, I b) { return _mm512_xor_si512(a, b); }
/// The low four bits of a's bytes, and all of b's.
WEFT_INLINE I low4_or(I a, I b) { return _mm512_ternarylogic_epi32(a, set_i8(15), b, 0xEA); }
WEFT_INLINE I add_i32(I a, I b) { return _mm512_add_epi32(a, b); }
WEFT_INLINE I max_i32(I a, I b) { return _mm512_max_epi32(a, b); }
template <int N>
WEFT_INLINE I left32(I v) {
  return _mm512_slli_epi32(v, N);
}
template <int N>
WEFT_INLINE I left16(I v) {
  return _mm512_slli_epi16(v, N);
}
template <int N>
WEFT_INLINE I right16(I v) {
  return _mm512_srli_epi16(v, N);
}
template <int N>
WEFT_INLINE I right32(I v) {
  return _mm512_srli_epi32(v, N);
}
WEFT_INLINE V to_float(I v) { return _mm512_cvtepi32_ps(v); }
WEFT_INLINE V as_float(I v) { return _mm512_castsi512_ps(v); }
WEFT_INLINE I as_int(V v) { return _mm512_castps_si512(v); }
WEFT_INLINE I nearest(V v) { return _mm512_cvtps_epi32(v); }
/// One of 16 bytes for each byte of `index` (0..15).
WEFT_INLINE I lookup(__m128i table, I index) { return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), index); }
/// The same with a table for each four lanes, and one index for all.
WEFT_INLINE I lookup_within(I table, __m128i index) {
  return _mm512_shuffle_epi8(table, _mm512_broadcast_i32x4(index));
}
/// Bytes of `mask` where the byte of v has all bits of `bits`, which has one, else 0.
WEFT_INLINE I where_bit(I v, I bits, I mask) { return _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(v, bits), mask); }
WEFT_INLINE I choose_above(I a, int limit, I yes, I no) {
  return _mm512_mask_mov_epi32(no, _mm512_cmpgt_epi32_mask(a, set_i32(limit)), yes);
}
WEFT_INLINE I shift_by(I v, I counts) { return _mm512_sllv_epi32(v, counts); }
/// kLanes bytes, unsigned or signed, as 32-bit lanes; and kLanes 16-bit ones.
WEFT_INLINE I from_u8(const std::byte* p) { return _mm512_cvtepu8_epi32(load_as<__m128i>(p)); }
WEFT_INLINE I from_i8(const std::byte* p) { return _mm512_cvtepi8_epi32(load_as<__m128i>(p)); }
WEFT_INLINE I from_u16(const std::byte* p) { return _mm512_cvtepu16_epi32(load_as<__m256i>(p)); }
WEFT_INLINE int sum_of(I v) { return _mm512_reduce_add_epi32(v); }
WEFT_INLINE int max_of_i32(I v) { return _mm512_reduce_max_epi32(v); }
/// The lanes as signed bytes, saturated.
WEFT_INLINE void store_i8(int8_t* p, I v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(v)); }

#elif defined(__AVX2__)

using I = __m256i;

WEFT_INLINE I zero_i() { return _mm256_setzero_si256(); }
WEFT_INLINE I set_i8(int v) { return _mm256_set1_epi8(static_cast<char>(v)); }
WEFT_INLINE I set_i32(int v) { return _mm256_set1_epi32(v); }
WEFT_INLINE I and_i(I a, I b) { return _mm256_and_si256(a, b); }
WEFT_INLINE I or_i(I a, I b) { return _mm256_or_si256(a, b); }
WEFT_INLINE I xor_i(I a, I b) { return _mm256_xor_si256(a, b); }
WEFT_INLINE I low4_or(I a, I b) { return or_i(and_i(a, set_i8(15)), b); }
WEFT_INLINE I add_i32(I a, I b) { return _mm256_add_epi32(a, b); }
WEFT_INLINE I max_i32(I a, I b) { return _mm256_max_epi32(a, b); }
template <int N>
WEFT_INLINE I left32(I v) {
  return _mm256_slli_epi32(v, N);
}
template <int N>
WEFT_INLINE I left16(I v) {
  return _mm256_slli_epi16(v, N);
}
template <int N>
WEFT_INLINE I right16(I v) {
  return _mm256_srli_epi16(v, N);
}
template <int N>
WEFT_INLINE I right32(I v) {
  return _mm256_srli_epi32(v, N);
}
WEFT_INLINE V to_float(I v) { return _mm256_cvtepi32_ps(v); }
WEFT_INLINE V as_float(I v) { return _mm256_castsi256_ps(v); }
WEFT_INLINE I as_int(V v) { return _mm256_castps_si256(v); }
WEFT_INLINE I nearest(V v) { return _mm256_cvtps_epi32(v); }
WEFT_INLINE I lookup(__m128i table, I index) { return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), index); }
WEFT_INLINE I lookup_within(I table, __m128i index) {
  return _mm256_shuffle_epi8(table, _mm256_broadcastsi128_si256(index));
}
WEFT_INLINE I where_bit(I v, I bits, I mask) {
  return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(v, bits), bits), mask);
}
WEFT_INLINE I choose_above(I a, int limit, I yes, I no) {
  return _mm256_blendv_epi8(no, yes, _mm256_cmpgt_epi32(a, set_i32(limit)));
}
WEFT_INLINE I shift_by(I v, I counts) { return _mm256_sllv_epi32(v, counts); }
WEFT_INLINE I from_u8(const std::byte* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
WEFT_INLINE I from_i8(const std::byte* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
WEFT_INLINE I from_u16(const std::byte* p) { return _mm256_cvtepu16_epi32(load_as<__m128i>(p)); }
WEFT_INLINE int sum_of(I v) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}
WEFT_INLINE int max_of_i32(I v) {
  const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1)));
}
WEFT_INLINE void store_i8(int8_t* p, I v) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}

#endif

/// v, once, in a register: the compiler would load it again for each use.
WEFT_INLINE I loaded(I v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#endif
  return v;
}

/// Four bytes of x in every lane.
WEFT_INLINE I broadcast4(const int8_t* x) { return set_i32(load_as<int32_t>(x)); }

// Products of unsigned bytes below 128 with signed ones, sums of four a lane; and of signed bytes w, which VNNI takes
// with 128 added (biased).
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)

constexpr int kBias = 128;
/// The high nibbles of w's bytes, times 1 / kHighUnit: here they need no shift.
constexpr float kHighUnit = 1.0f / 16;
WEFT_INLINE I high_nibbles(I w) { return and_i(w, set_i8(0xF0)); }

WEFT_INLINE I dot(I sums, I w, I x) {
#if defined(__AVX512VNNI__)
  return _mm512_dpbusd_epi32(sums, w, x);
#else
  return _mm256_dpbusd_avx_epi32(sums, w, x);
#endif
}

/// The products of a few units of four columns, one after the other, w of so many bits (8: biased).
template <int Bits>
struct Products {
  I sums;
  WEFT_INLINE void begin(int32_t less32) { sums = set_i32(less32); }
  WEFT_INLINE void add(int /*unit*/, I w, I x) { sums = dot(sums, w, x); }
};

#elif defined(__AVX2__)

constexpr int kBias = 0;
constexpr float kHighUnit = 1;
WEFT_INLINE I high_nibbles(I w) { return and_i(right16<4>(w), set_i8(15)); }

/// v, which the compiler must have before it goes on: it makes trees of long sums, for registers there are not.
WEFT_INLINE I in_turn(I v) {
  asm("" : "+x"(v));
  return v;
}
WEFT_INLINE I widen(I pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

/// A pair of products must fit 16 bits: 2 * 128 * 127 < 2^15.
WEFT_INLINE I dot(I sums, I w, I x) { return in_turn(add_i32(sums, widen(_mm256_maddubs_epi16(w, x)))); }

/// Pairs of products of few bits are summed in 16 bits for a while: 8 * 2 * 15 * 127, 4 * 2 * 31 * 127 and, six bits
/// less their offset, 4 * 2 * 32 * 127 are below 2^15 (before the last they may wrap). `unit` counts from 0; a whole
/// number of kRun is added, of six bits one run after `begin`.
template <int Bits>
struct Products {
  static constexpr int kRun = Bits <= 4 ? 8 : 4;
  I sums, pairs = zero_i();
  WEFT_INLINE void begin(int32_t less32) { sums = zero_i(), pairs = set_i32(less32); }
  WEFT_INLINE void add(int unit, I w, I x) {
    if constexpr (Bits == 8) {
      sums = dot(sums, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    } else {
      const I two = _mm256_maddubs_epi16(w, x);
      pairs = unit % kRun == 0 && Bits != 6 ? two : in_turn(_mm256_add_epi16(pairs, two));
      if (unit % kRun == kRun - 1) sums = add_i32(sums, widen(pairs));
    }
  }
};

#endif

/// -32 times the sum of 16 bytes, as Products<6>::begin takes it: where pairs are summed in 16 bits, in two halves of
/// 16, the sums of columns 4 i, 4 i + 1 and of 4 i + 2, 4 i + 3.
WEFT_INLINE int32_t less32_of(const int8_t* q, [[maybe_unused]] uint32_t total) {
  if constexpr (kBias != 0) return static_cast<int32_t>(0u - 32u * total);
  const __m128i twos = _mm_maddubs_epi16(_mm_set1_epi8(1), load_as<__m128i>(q));
  const __m128i four = _mm_add_epi16(twos, _mm_unpackhi_epi64(twos, twos));
  const __m128i all = _mm_add_epi16(four, _mm_shuffle_epi32(four, 1));
  return _mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), _mm_slli_epi16(all, 5)));
}

}  // namespace weft::cpu::WEFT_ISA
