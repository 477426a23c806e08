// Scores of keys, and what is remembered of those seen so far.
#pragma once

#include "backends/cuda/device/attention.h"

namespace weft::cuda {

constexpr float kLog2E = 1.4426950408889634f;

__device__ inline float slope_of(const AttentionArgs& a, int head) {
  int n = 1;
  while (2 * n <= a.n_head) n *= 2;
  const double power = head < n ? -8.0 * (head + 1) / n : -4.0 * (2 * (head - n) + 1) / n;
  return static_cast<float>(static_cast<double>(a.alibi_scale) * exp2(power));
}

/// Out of line: few models have either.
__device__ __noinline__ inline float adjusted(float score, float softcap, float bias) {
  if (softcap > 0) score = softcap * tanhf(score / softcap);
  return score + bias;
}

/// What a group of lanes, a warp, a block or a split has seen of one head: scores are powers of two.
struct Seen {
  float largest = -INFINITY, sum = 0;  // of scores, of weights

  /// Takes in `other`; sums of values are to be scaled likewise.
  __device__ void join(const Seen& other, float& own_factor, float& other_factor) {
    const float m = fmaxf(largest, other.largest);
    own_factor = largest == -INFINITY ? 0.0f : exp2f(largest - m);
    other_factor = other.largest == -INFINITY ? 0.0f : exp2f(other.largest - m);
    sum = sum * own_factor + other.sum * other_factor;
    largest = m;
  }
};

/// What the sum of weighted values is multiplied by, once all keys are seen. With attention sinks there is one more, of
/// no value, that every head sees.
__device__ inline float inverse_sum(const AttentionArgs& a, int head, Seen all) {
  if (!(all.sum > 0)) return 0;
  float own_factor = 1, sink_factor;
  if (a.sinks != nullptr) all.join({a.sinks[head] * kLog2E, 1}, own_factor, sink_factor);
  return own_factor / all.sum;
}

}  // namespace weft::cuda
