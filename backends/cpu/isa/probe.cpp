// What the machine gives at best: memory read in streams, fused multiply-adds and 8-bit dot products on registers.
// The limits that every share is stated against.
#include "backends/cpu/isa/kernels.h"
#if defined(__AVX2__)
#include "backends/cpu/isa/int8.h"
#else
#include "backends/cpu/isa/vec.h"
#endif

namespace weft::cpu::WEFT_ISA {
namespace {

/// Chains of dependent operations in flight: latency 4 x 2 units, and some to spare.
constexpr int kChains = 12;

/// Hides a value from the optimizer, which would else take constant work out of the loop.
template <typename T>
WEFT_INLINE void opaque(T& v) {
  asm volatile("" : "+v"(v));
}

}  // namespace

float read_all(const float* data, int64_t n, int64_t ahead) {
  constexpr int kStreams = 4;
  const int64_t stream = n / kStreams / (2 * kLanes) * (2 * kLanes);
  V sums[kStreams][2];
  for (auto& pair : sums) pair[0] = pair[1] = set(0);
  for (int64_t i = 0; i < stream; i += 2 * kLanes) {
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) {
      const float* p = data + s * stream + i;
      if (i % 16 == 0) _mm_prefetch(reinterpret_cast<const char*>(p) + ahead, _MM_HINT_T0);
      sums[s][0] = sums[s][0] + load(p);
      sums[s][1] = sums[s][1] + load(p + kLanes);
    }
  }
  V total = set(0);
  for (const auto& pair : sums) total = total + (pair[0] + pair[1]);
  return sum(total);
}

double multiply_add(int64_t repeats) {
  V acc[kChains];
  for (V& v : acc) {
    v = set(0);
    opaque(v);  // or one chain would do for all
  }
  V a = set(1e-3f), b = set(1e-3f);
  for (int64_t i = 0; i < repeats; ++i) {
    opaque(a);
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) acc[c] = fma(a, b, acc[c]);
  }
  for (V& v : acc) opaque(v);
  return 2.0 * kLanes * kChains * static_cast<double>(repeats);
}

#if defined(__AVX2__)
double dot_bytes(int64_t repeats) {
  I acc[kChains];
  for (I& v : acc) {
    v = zero_i();
    opaque(v);
  }
  I w = set_i8(1), x = set_i8(1);
  for (int64_t i = 0; i < repeats; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) {
      opaque(w);
      acc[c] = dot(acc[c], w, x);
    }
  }
  for (I& v : acc) opaque(v);
  return 2.0 * 4 * kLanes * kChains * static_cast<double>(repeats);
}
#endif

}  // namespace weft::cpu::WEFT_ISA
