// AVX512_BF16 where it has no tile unit beside it but dot products of two at the rate of one FMA (Zen 4): the kernels
// of AVX-512, and products of many tokens in bf16.
#include "backends/cpu/isa/bf16/pages.h"

namespace weft::cpu::WEFT_ISA {
namespace {

/// 8 tokens x 32 rows in registers. A pair of columns is 16 dot products, one a cycle, on 2 loads of rows and 8
/// broadcasts of tokens: bound by the dot products.
class DotProducts {
  static constexpr int kTokens = 8;

 public:
  static constexpr int64_t kColumns = 512;

  template <typename Ask>
  WEFT_INLINE void product(Sums from, Sums to, const uint16_t* a, int64_t a_stride, const std::byte* b, int64_t steps,
                           Ask ask) {
    for (int64_t t = 0; t < kPairSide; t += kTokens) {
      V sums[kTokens][2];
#pragma GCC unroll 8
      for (int i = 0; i < kTokens; ++i) {
        const float* const line = from.at + (t + i) * from.stride;
        sums[i][0] = from.at ? load(line) : set(0);
        sums[i][1] = from.at ? load(line + kTileSide) : set(0);
      }
      for (int64_t step = 0; step < steps; ++step) {
        if (t == 0) ask(step);
        multiply(a + t * a_stride + step * kTileColumns, a_stride, b + step * kPairBytes, sums);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kTokens; ++i) {
        float* const line = to.at + (t + i) * to.stride;
        store(line, sums[i][0]);
        store(line + kTileSide, sums[i][1]);
      }
    }
  }

 private:
  static WEFT_INLINE void multiply(const uint16_t* a, int64_t a_stride, const std::byte* b, V (&sums)[kTokens][2]) {
#pragma GCC unroll 2
    for (int64_t line = 0; line < kTileSide; ++line) {
      const V w[2] = {load_as<V>(b + line * 64), load_as<V>(b + kTileBytes + line * 64)};
#pragma GCC unroll 8
      for (int i = 0; i < kTokens; ++i) {
        const I x = set_i32(load_as<int32_t>(a + i * a_stride + 2 * line));
        sums[i][0] = _mm512_dpbf16_ps(sums[i][0], (__m512bh)w[0], (__m512bh)x);
        sums[i][1] = _mm512_dpbf16_ps(sums[i][1], (__m512bh)w[1], (__m512bh)x);
      }
    }
  }
};

/// Dot products on registers.
double multiply_pairs(int64_t repeats) {
  constexpr int kChains = 12;
  V sums[kChains];
  for (V& v : sums) {
    v = set(0);
    asm volatile("" : "+v"(v));
  }
  V x = set(0);
  for (int64_t i = 0; i < repeats; ++i) {
    asm volatile("" : "+v"(x));
#pragma GCC unroll 12
    for (V& v : sums) v = _mm512_dpbf16_ps(v, (__m512bh)x, (__m512bh)x);
  }
  for (V& v : sums) asm volatile("" : "+v"(v));
  return 2.0 * 2 * kLanes * kChains * static_cast<double>(repeats);
}

}  // namespace

const IsaKernels& kernels() {
  static const IsaKernels table = kernels_with<DotProducts>("avx512bf16", false, multiply_pairs);
  return table;
}

}  // namespace weft::cpu::WEFT_ISA
