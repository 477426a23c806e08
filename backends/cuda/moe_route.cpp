#include "ops/moe_route.h"

#include "backends/cuda/device/attention.h"
#include "backends/cuda/device/moe_route.h"
#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/steps.h"

namespace weft::cuda {
namespace {

int64_t experts_of(const Match& match) {
  int64_t experts = 0;
  for (const TensorType& block : match.types(MoeRoute::kWeight)) experts += block.shape[0];
  return experts;
}

std::optional<std::string> refuses(const Match& match, const DeviceInfo&) {
  const auto blocks = match.types(MoeRoute::kWeight);
  if (blocks.size() > kMaxBlocks) return fmt::format("{} row blocks are more than {}", blocks.size(), kMaxBlocks);
  for (const TensorType& block : blocks) {
    if (block.dtype != blocks[0].dtype) return "its row blocks are of several types";
    if (!route_reads(block.dtype->id)) return fmt::format("it cannot read {}", block.dtype.name());
  }
  if (experts_of(match) > kMostExperts) return fmt::format("more than {} experts", kMostExperts);
  if (match.op<MoeRoute>().experts_per_token > kMostPicks) return fmt::format("more than {} of a token", kMostPicks);
  if (match.type(MoeRoute::kX).shape[0] > kArrivals) return fmt::format("more than {} tokens", kArrivals);
  return std::nullopt;
}

Routing routing_of(Gating gating) {
  switch (gating) {
    case Gating::softmax_topk_renorm:
      return Routing::softmax_topk_renorm;
    case Gating::softmax_topk:
      return Routing::softmax_topk;
    case Gating::topk_softmax:
      break;
  }
  return Routing::topk_softmax;
}

void prepare(const Call& call, Steps& steps) {
  const auto& op = call.match.op<MoeRoute>();
  const Tensor x = call.input(MoeRoute::kX);
  const auto weights = call.inputs(MoeRoute::kWeight);
  const auto* bias = call.input(MoeRoute::kBias).as<float>();
  RouteArgs args{.x = x.as<float>(),
                 .tokens = extent_of(call.out[0].type, call.live),
                 .routing = routing_of(op.gating),
                 .picks = op.experts_per_token,
                 .logits = reinterpret_cast<float*>(call.workspace),
                 .arrivals = static_cast<CudaSteps&>(steps).scratch().arrivals,
                 .ids = call.out[0].as<int32_t>(),
                 .values = call.out[1].as<float>()};
  args.weights.k = x.dim(1);
  args.weights.type = weights[0].type.dtype->id;
  for (const Tensor& weight : weights) {
    const int n = args.weights.n_blocks++;
    args.weights.block[n] = weight.data;
    args.weights.bias[n] = bias != nullptr ? bias + args.weights.begin[n] : nullptr;
    args.weights.begin[n + 1] = args.weights.begin[n] + weight.dim(0);
  }
  emit(steps, [args](cudaStream_t stream) { launch_route(args, stream); });
}

}  // namespace

Kernel moe_route() {
  return {.name = "moe_route.f32",
          .covers = {MoeRoute::name},
          .arithmetic = Arithmetic::f32,
          .refuses = refuses,
          .layout = nullptr,
          .workspace =
              [](const Match& match) {
                return static_cast<size_t>(match.type(MoeRoute::kX).shape[0] * experts_of(match)) * sizeof(float);
              },
          .prepare = prepare};
}

}  // namespace weft::cuda
