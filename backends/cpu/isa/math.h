// xsimd's transcendental functions on this instruction set's vector, and loops that leave no tail to their callers.
#pragma once

#include <xsimd/xsimd.hpp>

#include "backends/cpu/isa/vec.h"

namespace weft::cpu::WEFT_ISA {

using Batch = xsimd::batch<float>;
static_assert(Batch::size == kLanes);

WEFT_INLINE V exp_of(V x) { return xsimd::exp(Batch(x)); }
WEFT_INLINE V tanh_of(V x) { return xsimd::tanh(Batch(x)); }
WEFT_INLINE V erf_of(V x) { return xsimd::erf(Batch(x)); }

/// exp(x) for x <= 0, to 2 ulp; 0 from -87 down, where floats lose digits. 2^n by n's place in the exponent; the rest,
/// in
/// +- ln 2 / 2, by the polynomial of degree 6 with the least relative error (2e-9; Lawson's iteration).
WEFT_INLINE V exp_below(V x) {
  typedef int32_t Bits __attribute__((vector_size(sizeof(V))));
  const V magic = set(0x1.8p23f + 127);  // the low bits of what is added to it become n + 127
  const V t = fma(x, set(0x1.715476p+0f), magic), n = t - magic;
  const V r = fma(n, set(0x1.bd0106p-13f), fma(n, set(-0x1.63p-1f), x));  // ln 2 in two parts, n times the first exact
  V p = set(0x1.6ab98p-10f);
  p = fma(p, r, set(0x1.126d0cp-7f));
  p = fma(p, r, set(0x1.55589ap-5f));
  p = fma(p, r, set(0x1.55540ap-3f));
  p = fma(p, r, set(0x1.fffffap-2f));
  p = fma(p, r, set(1));
  p = fma(p, r, set(1));
  const V result = p * (V)((Bits)t << 23);
  return (V)((Bits)result & ~(Bits)(x < set(-87)));
}

/// The last n < kLanes elements of a row, followed by `fill`.
WEFT_INLINE V load_tail(const float* p, int64_t n, float fill) {
  alignas(64) float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = i < n ? p[i] : fill;
  return load(lanes);
}
WEFT_INLINE void store_tail(float* p, int64_t n, V v) {
  alignas(64) float lanes[kLanes];
  store(lanes, v);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

/// y[i] = f(y[i]).
template <typename F>
WEFT_INLINE void map(float* y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(y + i)));
  if (i < n) store_tail(y + i, n - i, f(load_tail(y + i, n - i, 0)));
}

/// y[i] = f(y[i], x[i]).
template <typename F>
WEFT_INLINE void map(float* y, const float* x, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(y + i), load(x + i)));
  if (i < n) store_tail(y + i, n - i, f(load_tail(y + i, n - i, 0), load_tail(x + i, n - i, 0)));
}

/// acc = f(acc, x[i]) over vectors; `fill` completes the last one.
template <typename F>
WEFT_INLINE V reduce(const float* x, int64_t n, V acc, float fill, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) acc = f(acc, load(x + i));
  if (i < n) acc = f(acc, load_tail(x + i, n - i, fill));
  return acc;
}

}  // namespace weft::cpu::WEFT_ISA
