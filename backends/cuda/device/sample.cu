// A block a row, a thread a candidate: its places by probability and by id are counted, which is as quick as sorting so
// few. One thread adds the weights up, in double precision and in the order of models/session/sampler.cpp, so that its
// sums are the same numbers. Bound by latency: three sums of up to k dependent additions.
#include "backends/cuda/device/sample.h"

#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/logit_order.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr int kNoToken = 0x7FFFFFFF;

/// The logit of a token that was seen before. Without contraction: the host has none.
__device__ float penalize(float logit, float penalty) {
  return fminf(logit > 0 ? __fdiv_rn(logit, penalty) : __fmul_rn(logit, penalty), FLT_MAX);
}

/// How many of n stand before what `is_before` says of one.
template <typename IsBefore>
__device__ int count(int n, IsBefore&& is_before) {
  int before = 0;
#pragma unroll 8
  for (int j = 0; j < n; ++j) before += is_before(j) ? 1 : 0;
  return before;
}

__device__ double sum_of(const double* weights, int n) {
  double sum = 0;
#pragma unroll 8
  for (int j = 0; j < n; ++j) sum += weights[j];
  return sum;
}

/// How many of n weights, most probable first, sum to at least `wanted`; all, if they do not.
__device__ int nucleus(const double* weights, int n, double wanted) {
  double sum = 0;
  for (int j = 0; j < n; ++j) {
    sum += weights[j];
    if (sum >= wanted) return j + 1;
  }
  return n;
}

/// The first of n whose running sum exceeds `target`; if none, the last that weighs anything.
__device__ int first_beyond(const double* weights, int n, double target) {
  double sum = 0;
  int last = 0;
  for (int j = 0; j < n; ++j) {
    sum += weights[j];
    if (weights[j] > 0) last = j;
    if (sum > target) return j;
  }
  return last;
}

__global__ void __launch_bounds__(kMostSampled) sample(const __grid_constant__ SampleArgs a) {
  __shared__ int recent[kMostSampled], ids[kMostSampled], tokens[kMostSampled];
  __shared__ uint64_t numbers[kMostSampled];
  __shared__ double by_rank[kMostSampled], by_id[kMostSampled];
  __shared__ float largest;
  __shared__ int n_nucleus;
  wait_for_previous();
  const int row = static_cast<int>(blockIdx.x), i = static_cast<int>(threadIdx.x), k = a.k;
  if (row >= rows_of(a.rows)) return;
  const float* options = a.options + row * 4;
  const int32_t* draws = a.draws + row * 3;
  const float temperature = options[0], top_p = options[1], min_p = options[2], penalty = options[3];
  const int token = i < k ? a.tokens[row * k + i] : -1, fed = a.fed[row], top_k = draws[0];
  const uint64_t drawn = static_cast<uint64_t>(draws[1]) << 27 | static_cast<uint64_t>(draws[2]);
  float logit = i < k ? a.values[row * k + i] : -INFINITY;
  recent[i] = i < a.n_recent ? a.recent[row * a.n_recent + i] : -1;
  __syncthreads();

  const bool seen = token == fed || count(a.n_recent, [&](int j) { return recent[j] == token; }) > 0;
  if (seen && penalty != 1) logit = penalize(logit, penalty);
  const bool is_one = token >= 0 && logit > -INFINITY;
  const uint64_t number = is_one ? number_of(order_of(logit), static_cast<unsigned>(token)) : 0;
  numbers[i] = number;
  const int n_all = __syncthreads_count(is_one);
  if (n_all == 0) {
    if (i == 0) a.chosen[row] = -1;
    return;
  }
  const int rank = count(k, [&](int j) { return numbers[j] > number; });
  if (temperature == 0) {
    if (is_one && rank == 0) a.chosen[row] = token;
    return;
  }

  const int n = top_k > 0 && top_k < n_all ? top_k : n_all;
  const bool kept = is_one && rank < n;
  if (kept && rank == 0) largest = logit;
  ids[i] = kept ? token : kNoToken;
  __syncthreads();
  const int place = count(k, [&](int j) { return ids[j] < token; });
  const double weight =
      kept ? exp((static_cast<double>(logit) - static_cast<double>(largest)) / static_cast<double>(temperature)) : 0.0;
  if (kept) by_rank[rank] = weight, by_id[place] = weight, tokens[place] = token;
  __syncthreads();
  if (i == 0) n_nucleus = top_p < 1 ? nucleus(by_rank, n, static_cast<double>(top_p) * sum_of(by_id, n)) : n;
  __syncthreads();
  // What is left out weighs nothing: the sums are those without it.
  if (kept && (rank >= n_nucleus || weight < static_cast<double>(min_p))) by_id[place] = 0;
  __syncthreads();
  if (i == 0) {
    const double target = static_cast<double>(drawn) * 0x1p-53 * sum_of(by_id, n);
    a.chosen[row] = tokens[first_beyond(by_id, n, target)];
  }
}

}  // namespace

void launch_sample(const SampleArgs& a, cudaStream_t stream) {
  launch_dependent(sample, dim3(static_cast<unsigned>(a.rows.capacity)), dim3(kMostSampled), 0, stream, a);
}

}  // namespace weft::cuda
