// Least-squares fits of block scales, shared by the encoders. All minimise sum w (x - x')^2 over what a block can say.
//
// With the codes fixed the best scale is a quotient of sums; with the scale fixed the best codes are the nearest
// levels. So: try several scales around the one that just spans the block, keep the best, alternate a few times.
// Sums are pairwise, in an order that vectorizes and does not depend on the width of the vector unit.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "ops/quant/block.h"

namespace weft::quant {

/// Nearest integer in [lo, hi], ties to even, of any float; NaN gives an end. |lo|, |hi| < 2^22.
/// Adding 1.5 * 2^23 leaves no bits below the point; the clamp is on the bits, which order like the sums.
inline int32_t round_within(float v, int32_t lo, int32_t hi) {
  constexpr float kShift = 0x1.8p23f;
  constexpr int32_t kBase = std::bit_cast<int32_t>(kShift);
  const int32_t bits = std::bit_cast<int32_t>(v + kShift);
  return std::min(std::max(bits, kBase + lo), kBase + hi) - kBase;
}

/// 1 / the scale that f16 bits stand for, 0 for 0: codes are chosen for the scale as stored.
inline float inverse_of(float scale) { return scale != 0.0f ? 1.0f / scale : 0.0f; }
inline float inverse_of(uint16_t f16_bits) { return inverse_of(f16_to_f32(f16_bits)); }

/// One block as the fits want it: x without NaN and within +-limit, w in (0, 1]. 2^28 is beyond every f16-scaled
/// format.
template <size_t N>
struct Samples {
  std::array<float, N> x, w;

  Samples(const float* in, const float* importance, float limit = 0x1p28f) {
    const int32_t limit_bits = std::bit_cast<int32_t>(limit);  // magnitudes order like their bits, NaN above infinity
    for (size_t i = 0; i < N; ++i) {
      const int32_t bits = std::bit_cast<int32_t>(in[i]), magnitude = bits & 0x7FFFFFFF;
      x[i] = std::bit_cast<float>(magnitude > 0x7F800000 ? 0 : std::min(magnitude, limit_bits) | (bits ^ magnitude));
    }
    for (float& each : w) each = 1.0f;
    if (!importance) return;
    float largest = 0.0f;
    for (size_t i = 0; i < N; ++i) largest = importance[i] > largest ? importance[i] : largest;
    if (!(largest >= 0x1p-100f && largest <= 0x1p100f)) return;  // nothing usable: all alike
    constexpr float kFloor = 0x1p-20f;  // an element of no importance still decides where nothing else does
    for (size_t i = 0; i < N; ++i) w[i] = importance[i] > kFloor * largest ? importance[i] / largest : kFloor;
  }
};

/// Destroys `a`. N is a power of two.
template <size_t N>
float sum_of(std::array<float, N>& a) {
  for (size_t half = N / 2; half >= 4; half /= 2)
    for (size_t k = 0; k < half; ++k) a[k] += a[k + half];
  return (a[0] + a[2]) + (a[1] + a[3]);
}

/// Levels that are consecutive integers.
struct IntegerLevels {
  int32_t lo, hi;
  int32_t operator()(float v) const { return round_within(v, lo, hi); }
};

/// Sums over a block for levels l: enough for the best scale of x ~ d * l and its error.
struct Projection {
  float xl = 0, ll = 0;  // sum w x l, sum w l l
  float scale() const { return ll > 0 ? xl / ll : 0.0f; }
  float gain() const { return ll > 0 ? xl * xl / ll : 0.0f; }     // error = sum w x x - gain at the best scale
  float loss(float d) const { return d * (d * ll - 2.0f * xl); }  // error = sum w x x + loss(d) at scale d
};

template <size_t N, class Levels>
Projection project(const float* x, const float* w, const Levels& levels, float inverse_scale) {
  std::array<float, N> xl, ll;
  for (size_t i = 0; i < N; ++i) {
    const float level = static_cast<float>(levels(x[i] * inverse_scale)), weighted = w[i] * level;
    xl[i] = weighted * x[i];
    ll[i] = weighted * level;
  }
  return {sum_of(xl), sum_of(ll)};
}

struct Range {
  float least, most;
};

/// By integer keys that order like the floats, because their minimum and maximum vectorize.
template <size_t N>
Range range_of(const float* x) {
  const auto key = [](int32_t bits) { return bits ^ (bits >> 31 & 0x7FFFFFFF); };  // its own inverse
  int32_t least = std::numeric_limits<int32_t>::max(), most = std::numeric_limits<int32_t>::min();
  for (size_t i = 0; i < N; ++i) {
    const int32_t k = key(std::bit_cast<int32_t>(x[i]));
    least = std::min(least, k);
    most = std::max(most, k);
  }
  return {std::bit_cast<float>(key(least)), std::bit_cast<float>(key(most))};
}

/// Element of largest magnitude, or 0 where the whole block is below what an f16 scale can say.
template <size_t N>
float extreme_of(const float* x) {
  const Range range = range_of<N>(x);
  const float extreme = -range.least > range.most ? range.least : range.most;
  return std::abs(extreme) < 0x1p-40f ? 0.0f : extreme;
}

/// Signed d for x ~ d * level. Tries 2 * (2 * steps + 1) scales: the extreme on either end of the levels, times
/// 1 + k * width / steps.
template <size_t N, class Levels>
float fit_scale(const float* x, const float* w, const Levels& levels, int steps, float width) {
  const float extreme = extreme_of<N>(x);
  if (extreme == 0.0f) return 0.0f;
  Projection best;
  float best_gain = -1.0f;
  const auto attempt = [&](float inverse_scale) {
    const Projection p = project<N>(x, w, levels, inverse_scale);
    if (!(p.gain() > best_gain)) return false;
    best = p, best_gain = p.gain();
    return true;
  };
  for (const float end : {static_cast<float>(levels.lo), static_cast<float>(levels.hi)})
    for (int k = -steps; k <= steps; ++k)
      attempt(end * (1.0f + width * static_cast<float>(k) / static_cast<float>(steps)) / extreme);
  for (int round = 0; round < 3 && best.scale() != 0.0f; ++round)
    if (!attempt(1.0f / best.scale())) break;
  return best.scale();
}

/// x ~ scale * q + min.
struct Affine {
  float scale = 0, min = 0;
};

struct Weight {
  float w, x;  // sum w, sum w x
};

template <size_t N>
Weight weigh(const float* x, const float* w) {
  std::array<float, N> ws, xs;
  for (size_t i = 0; i < N; ++i) ws[i] = w[i], xs[i] = w[i] * x[i];
  return {sum_of(ws), sum_of(xs)};
}

/// Sums over a block for codes q in 0..hi at a given scale and min.
struct AffineSums {
  float q = 0, qq = 0, xq = 0;  // sum w q, sum w q q, sum w x q
};

template <size_t N>
AffineSums project_affine(const float* x, const float* w, int32_t hi, float inverse_scale, float min) {
  std::array<float, N> q1, qq, xq;
  for (size_t i = 0; i < N; ++i) {
    const float q = static_cast<float>(round_within((x[i] - min) * inverse_scale, 0, hi));
    q1[i] = w[i] * q;
    qq[i] = q1[i] * q;
    xq[i] = q1[i] * x[i];
  }
  return {sum_of(q1), sum_of(qq), sum_of(xq)};
}

/// Scale >= 0 and min for codes 0..hi. `min_at_most_zero` is the K formats' rule: they store -min without a sign.
template <size_t N>
Affine fit_affine(const float* x, const float* w, int32_t hi, bool min_at_most_zero, int steps, float width) {
  auto [least, most] = range_of<N>(x);
  const Weight sum = weigh<N>(x, w);
  if (min_at_most_zero && least > 0.0f) least = 0.0f;
  const float range = most - least;
  if (!(range >= 0x1p-40f)) return {0.0f, least};
  const float top = static_cast<float>(hi);
  Affine best{range / top, least};
  float best_gain = -1.0f;
  const auto attempt = [&](Affine start) {
    const AffineSums s = project_affine<N>(x, w, hi, 1.0f / start.scale, start.min);
    const double total = sum.w, spread = total * s.qq - double{s.q} * s.q;
    Affine fit;
    fit.scale = spread > 0 ? static_cast<float>((total * s.xq - double{s.q} * sum.x) / spread) : 0.0f;
    fit.min = (sum.x - fit.scale * s.q) / sum.w;
    if (min_at_most_zero && fit.min > 0.0f) fit = {s.qq > 0 ? s.xq / s.qq : 0.0f, 0.0f};
    if (!(fit.scale > 0.0f)) return false;
    const float gain = fit.scale * s.xq + fit.min * sum.x;  // error = sum w x x - gain
    if (!(gain > best_gain)) return false;
    best = fit, best_gain = gain;
    return true;
  };
  for (int k = -steps; k <= steps; ++k)
    attempt({range / (top * (1.0f + width * static_cast<float>(k) / static_cast<float>(steps))), least});
  for (int round = 0; round < 4; ++round)
    if (!attempt(best)) break;
  return best;
}

/// x ~ d * q + m with d and m as stored.
struct StoredAffine {
  uint16_t d = 0, m = 0;

  int code(float x, int32_t hi) const { return round_within((x - f16_to_f32(m)) * inverse_of(d), 0, hi); }
};

template <size_t N>
StoredAffine fit_stored_affine(const Samples<N>& s, int32_t hi, int steps, float width) {
  const Affine fit = fit_affine<N>(s.x.data(), s.w.data(), hi, false, steps, width);
  StoredAffine stored{f16_scale(fit.scale), 0};
  const float d = f16_to_f32(stored.d);  // the best m for d as stored; matters where d is subnormal or 0
  const AffineSums sums = project_affine<N>(s.x.data(), s.w.data(), hi, inverse_of(d), fit.min);
  const Weight sum = weigh<N>(s.x.data(), s.w.data());
  stored.m = f16_scale((sum.x - d * sums.q) / sum.w);
  return stored;
}

/// x ~ d * s[g] * level, g = element / N.
template <size_t Groups>
struct ScaledGroups {
  uint16_t d = 0;
  std::array<int, Groups> s{};

  float inverse(size_t g) const { return inverse_of(f16_to_f32(d) * static_cast<float>(s[g])); }
};

/// d and integers s[g] in [s_lo, s_hi], s_lo being the end of larger magnitude.
template <size_t Groups, size_t N, class Levels>
ScaledGroups<Groups> fit_scaled_groups(const Samples<Groups * N>& samples, const Levels& levels, int32_t s_lo,
                                       int32_t s_hi, int steps, float width) {
  ScaledGroups<Groups> fit;
  std::array<float, Groups> scale;
  for (size_t g = 0; g < Groups; ++g)
    scale[g] = fit_scale<N>(&samples.x[g * N], &samples.w[g * N], levels, steps, width);
  const float extreme = extreme_of<Groups>(scale.data());
  float d = extreme / static_cast<float>(s_lo);
  for (int round = 0; round < 2; ++round) {
    fit.d = f16_scale(d);
    const float stored = f16_to_f32(fit.d), inverse = inverse_of(stored);
    if (stored == 0.0f) break;
    float xl = 0, ll = 0;
    for (size_t g = 0; g < Groups; ++g) {
      const int32_t nearest = round_within(scale[g] * inverse, s_lo, s_hi);
      float best_loss = 0.0f;  // a scale of 0 is always there
      Projection best;
      fit.s[g] = 0;
      for (int32_t s = std::max(nearest - 1, s_lo); s <= std::min(nearest + 1, s_hi); ++s) {
        if (s == 0) continue;
        const float ds = stored * static_cast<float>(s);
        const Projection p = project<N>(&samples.x[g * N], &samples.w[g * N], levels, 1.0f / ds);
        if (p.loss(ds) < best_loss) best_loss = p.loss(ds), best = p, fit.s[g] = s;
      }
      const float s = static_cast<float>(fit.s[g]);
      xl += s * best.xl;
      ll += s * s * best.ll;
    }
    if (ll > 0) d = xl / ll;
  }
  return fit;
}

/// x ~ d * s[g] * q - dmin * m[g], g = element / N.
template <size_t Groups>
struct AffineGroups {
  uint16_t d = 0, dmin = 0;
  std::array<int, Groups> s{}, m{};

  template <size_t N>
  int code(const Samples<Groups * N>& samples, size_t i, int32_t hi) const {
    const size_t g = i / N;
    const float scale = f16_to_f32(d) * static_cast<float>(s[g]), shift = f16_to_f32(dmin) * static_cast<float>(m[g]);
    return round_within((samples.x[i] + shift) * inverse_of(scale), 0, hi);
  }
};

/// d, dmin >= 0 and integers s[g], m[g] in [0, top] for codes 0..hi.
template <size_t Groups, size_t N>
AffineGroups<Groups> fit_affine_groups(const Samples<Groups * N>& samples, int32_t hi, int32_t top, int steps,
                                       float width) {
  AffineGroups<Groups> fit;
  std::array<Affine, Groups> group;
  std::array<Weight, Groups> sum;
  float most_scale = 0, most_shift = 0;
  for (size_t g = 0; g < Groups; ++g) {
    const float *x = &samples.x[g * N], *w = &samples.w[g * N];
    group[g] = fit_affine<N>(x, w, hi, true, steps, width);
    sum[g] = weigh<N>(x, w);
    most_scale = std::max(most_scale, group[g].scale);
    most_shift = std::max(most_shift, -group[g].min);
  }
  float d = most_scale / static_cast<float>(top), dmin = most_shift / static_cast<float>(top);
  for (int round = 0; round < 2; ++round) {
    fit.d = f16_scale(d), fit.dmin = f16_scale(dmin);
    d = f16_to_f32(fit.d), dmin = f16_to_f32(fit.dmin);
    double ss = 0, mm = 0, sm = 0, sx = 0, mx = 0;  // sums of the 2 x 2 system for (d, dmin)
    for (size_t g = 0; g < Groups; ++g) {
      const float *x = &samples.x[g * N], *w = &samples.w[g * N];
      const int32_t near_s = round_within(group[g].scale * inverse_of(d), 0, top);
      const int32_t near_m = round_within(-group[g].min * inverse_of(dmin), 0, top);
      float best_loss = std::numeric_limits<float>::infinity();
      AffineSums best;
      for (int32_t s = std::max(near_s - 1, 0); s <= std::min(near_s + 1, top); ++s) {
        const float a = d * static_cast<float>(s);
        const AffineSums p = project_affine<N>(x, w, hi, inverse_of(a), -dmin * static_cast<float>(near_m));
        const int32_t m = round_within((a * p.q - sum[g].x) / sum[g].w * inverse_of(dmin), 0, top);
        const float b = dmin * static_cast<float>(m);
        const float loss = a * (a * p.qq - 2 * p.xq) + b * (b * sum[g].w + 2 * sum[g].x - 2 * a * p.q);
        if (loss < best_loss) best_loss = loss, best = p, fit.s[g] = s, fit.m[g] = m;
      }
      const double s = fit.s[g], m = fit.m[g];
      ss += s * s * best.qq;
      mm += m * m * sum[g].w;
      sm += s * m * best.q;
      sx += s * best.xq;
      mx += m * sum[g].x;
    }
    const double determinant = ss * mm - sm * sm;
    if (determinant > 1e-9 * ss * mm) {
      d = static_cast<float>((sx * mm - mx * sm) / determinant);
      dmin = std::max(static_cast<float>((sx * sm - ss * mx) / determinant), 0.0f);
    } else if (ss > 0) {
      d = static_cast<float>((sx + dmin * sm) / ss);
    }
    if (!(d >= 0.0f)) d = f16_to_f32(fit.d), dmin = f16_to_f32(fit.dmin);
  }
  return fit;
}

}  // namespace weft::quant
