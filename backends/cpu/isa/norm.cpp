// Normalization of one row, f32: two passes for the moments, one for the result. Bound by L1; rows are at most tens of
// kilobytes. The order of the sums depends on nothing but the row's length.
#include "backends/cpu/isa/kernels.h"
#include "backends/cpu/isa/math.h"

namespace weft::cpu::WEFT_ISA {

void layer_norm(const float* x, const float* gamma, const float* beta, float eps, int64_t n, float* y) {
  const float size = static_cast<float>(n);
  const float mean = sum(reduce(x, n, set(0), 0, [](V acc, V v) { return acc + v; })) / size;
  const V shift = set(mean);
  const float var = sum(reduce(x, n, set(0), mean, [&](V acc, V v) { return fma(v - shift, v - shift, acc); })) / size;
  const V inverse = set(1 / __builtin_sqrtf(var + eps));
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    if (left >= kLanes) {
      const V v = (load(x + i) - shift) * inverse * load(gamma + i);
      store(y + i, beta ? v + load(beta + i) : v);
    } else {
      const V v = (load_tail(x + i, left, 0) - shift) * inverse * load_tail(gamma + i, left, 0);
      store_tail(y + i, left, beta ? v + load_tail(beta + i, left, 0) : v);
    }
  }
}

void rms_norm(const float* x, const float* gamma, float eps, int64_t n, float* y) {
  const float squares = sum(reduce(x, n, set(0), 0, [](V acc, V v) { return fma(v, v, acc); }));
  const V inverse = set(1 / __builtin_sqrtf(squares / static_cast<float>(n) + eps));
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    if (left >= kLanes) {
      store(y + i, load(x + i) * inverse * load(gamma + i));
    } else {
      store_tail(y + i, left, load_tail(x + i, left, 0) * inverse * load_tail(gamma + i, left, 0));
    }
  }
}

}  // namespace weft::cpu::WEFT_ISA
