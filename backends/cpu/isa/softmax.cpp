// The pieces of attention between its two matrix products: soft cap, online softmax; and the weighted sum of rows,
// which serves both (keys turned, lanes are keys; values, lanes are columns).
#include "backends/cpu/isa/kernels.h"
#include "backends/cpu/isa/math.h"

namespace weft::cpu::WEFT_ISA {

void soft_cap(float cap, float* s, int64_t n) {
  map(s, n, [=](V v) { return set(cap) * tanh_of(v / set(cap)); });
}

float max(const float* s, int64_t n) {
  const float lowest = -__builtin_inff();
  return max_of(reduce(s, n, set(lowest), lowest, [](V acc, V v) { return vmax(acc, v); }));
}

float exp_sum(float* s, float shift, int64_t n) {
  V total = set(0);
  const V by = set(shift);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const V e = exp_of(load(s + i) - by);
    store(s + i, e);
    total = total + e;
  }
  if (i < n) {
    const V e = exp_of(load_tail(s + i, n - i, -__builtin_inff()) - by);
    store_tail(s + i, n - i, e);
    total = total + e;
  }
  return sum(total);
}

namespace {

void online_softmax_row(float* s, int64_t n, float factor, float* peak, float* total, float* keep) {
  const V by = set(factor);
  const float lowest = -__builtin_inff(), before = *peak;
  const float largest = max_of(reduce(s, n, set(lowest), lowest, [=](V acc, V v) { return vmax(acc, v * by); }));
  const float now = before > largest ? before : largest;
  const V less = set(now == lowest ? 0 : -now);  // where nothing was seen yet: exp(-inf), and NaN stays NaN
  V sums = set(0);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const V e = exp_below(fma(load(s + i), by, less));
    store(s + i, e);
    sums = sums + e;
  }
  if (i < n) {
    const V e = exp_below(fma(load_tail(s + i, n - i, lowest), by, less));
    store_tail(s + i, n - i, e);
    sums = sums + e;
  }
  *keep = 1;
  if (before != now) {
    alignas(64) float lanes[kLanes];
    store(lanes, exp_below(set(before - now)));
    *keep = lanes[0];
  }
  *total = *total * *keep + sum(sums);
  *peak = now;
}

}  // namespace

void online_softmax(float* s, int64_t stride, int64_t n_rows, int64_t n, float factor, float* peak, float* total,
                    float* keep) {
  for (int64_t r = 0; r < n_rows; ++r) online_softmax_row(s + r * stride, n, factor, peak + r, total + r, keep + r);
}

namespace {

/// Rows r0 .. r0 + R of y, C vectors of columns: the accumulators stay in registers over all keys.
template <int R, int C>
void weigh(float* y, const float* keep, const float* p, int64_t p_stride, const float* v, int64_t v_stride,
           int64_t n_keys, int64_t d) {
  V acc[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) {
      acc[r][c] = keep ? load(y + r * d + c * kLanes) * set(keep[r]) : set(0);
    }
  }
  for (int64_t j = 0; j < n_keys; ++j) {
    V value[C];
    for (int c = 0; c < C; ++c) value[c] = load(v + j * v_stride + c * kLanes);
    for (int r = 0; r < R; ++r) {
      const V weight = set(p[r * p_stride + j]);
      for (int c = 0; c < C; ++c) acc[r][c] = fma(weight, value[c], acc[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) store(y + r * d + c * kLanes, acc[r][c]);
  }
}

}  // namespace

// Rows of y and v are d apart or more, d a multiple of kLanes. Every element sums over ascending keys, whatever the
// block.
void weigh_rows(float* y, const float* keep, const float* p, int64_t p_stride, int64_t n_rows, const float* v,
                int64_t v_stride, int64_t n_keys, int64_t d) {
  int64_t r = 0;
  const auto rows = [&](auto count) {
    constexpr int R = decltype(count)::value;
    int64_t c = 0;
    if constexpr (kLanes == 16) {  // 16 accumulators, 8 loads for 16 FMA
      for (; c + 4 * kLanes <= d; c += 4 * kLanes) {
        weigh<R, 4>(y + r * d + c, keep ? keep + r : nullptr, p + r * p_stride, p_stride, v + c, v_stride, n_keys, d);
      }
    }
    for (; c + 2 * kLanes <= d; c += 2 * kLanes) {
      weigh<R, 2>(y + r * d + c, keep ? keep + r : nullptr, p + r * p_stride, p_stride, v + c, v_stride, n_keys, d);
    }
    if (c < d)
      weigh<R, 1>(y + r * d + c, keep ? keep + r : nullptr, p + r * p_stride, p_stride, v + c, v_stride, n_keys, d);
  };
  for (; r + 4 <= n_rows; r += 4) rows(Count<4>{});
  for (; r < n_rows; ++r) rows(Count<1>{});
}

}  // namespace weft::cpu::WEFT_ISA
