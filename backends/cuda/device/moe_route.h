// The router of a mixture of experts: logits, then the experts of each token and their weights.
#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/device/gemv.h"

namespace weft::cuda {

/// How logits become weights, as ops/moe_route.h has it.
enum class Routing : uint8_t { softmax_topk_renorm, softmax_topk, topk_softmax };

constexpr int64_t kMostExperts = 512, kMostPicks = 32;  // of a router; of a token

struct RouteArgs {
  GemvWeights weights = {};  // [E, k]
  const float* x = nullptr;  // [T, k]
  Extent tokens = {};
  Routing routing = Routing::softmax_topk_renorm;
  int picks = 1;                 // of a token
  float* logits = nullptr;       // [T, E] scratch
  unsigned* arrivals = nullptr;  // [kArrivals] zeros, left as zeros
  int32_t* ids = nullptr;        // [T, picks], or null
  float* values = nullptr;       // [T, picks], or null
};

/// f32, f16 and bf16 weights, f32 arithmetic; at most kMostExperts and kMostPicks, and as many tokens as arrivals.
bool route_reads(uint32_t type);
void launch_route(const RouteArgs& args, cudaStream_t stream);

}  // namespace weft::cuda
