#include "ops/moe_experts.h"

#include "backends/cuda/device/moe.h"
#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/products.h"
#include "backends/cuda/steps.h"
#include "ops/moe_route.h"

namespace weft::cuda {
namespace {

using Op = MoeExperts;

struct Sizes {
  int64_t tokens, picks, experts, d, f;

  explicit Sizes(const Match& match)
      : tokens(match.type(Op::kX).shape[0]),
        picks(match.type(Op::kExpertIds).shape[1]),
        experts(match.type(Op::kWeightUp).shape[0]),
        d(match.type(Op::kX).shape[1]),
        f(match.type(Op::kWeightUp).shape[1]) {}
};

bool is_plain(const Match& match) {
  return gemv_reads(match.type(Op::kWeightUp).dtype->id, 8) && gemv_reads(match.type(Op::kWeightDown).dtype->id, 8);
}

/// Up to here picks read their experts' rows each for itself.
constexpr int64_t kFewPicks = 64;

std::optional<std::string> refuses(Products products, const Match& match) {
  const TensorType up = match.type(Op::kWeightUp), down = match.type(Op::kWeightDown);
  const Sizes n(match);
  const int64_t picks = n.picks * n.tokens;
  if (up.dtype != match.type(Op::kWeightGate).dtype) return "up and gate are of two types";
  const auto cannot = [](const TensorType& type) {
    return fmt::format("it cannot read rows of {} elements of {}", type.shape[2], type.dtype.name());
  };
  if (products == Products::half) {
    if (picks <= kFewPicks) return fmt::format("{} picks are few", picks);
    if (moe_grouped_tiles(picks, n.experts) > kMoeTiles) return fmt::format("{} picks make too many tiles", picks);
    if (n.experts > kMoeGroups) return fmt::format("more than {} experts", kMoeGroups);
    if (!moe_grouped_reads(up.dtype->id, n.d)) return cannot(up);
    if (!moe_grouped_reads(down.dtype->id, n.f)) return cannot(down);
    return std::nullopt;
  }
  if (n.picks > kMoeTokenPicks) return fmt::format("more than {} picks of a token", kMoeTokenPicks);
  if (picks > kMoeDecodePicks) return fmt::format("more than {} picks", kMoeDecodePicks);
  if (is_plain(match) != (products == Products::gemv)) return "the weights are not of the types it is for";
  if (!moe_decode_reads(up.dtype->id, n.d, 1)) return cannot(up);
  if (!moe_decode_reads(down.dtype->id, n.f, n.picks)) return cannot(down);
  return std::nullopt;
}

size_t workspace(Products products, const Match& match) {
  const Sizes n(match);
  if (products != Products::half) return static_cast<size_t>(n.tokens * n.picks * n.f) * sizeof(float);
  ExpertsArgs args;
  args.tokens.capacity = n.tokens;
  args.experts = n.experts, args.d = n.d, args.f = n.f;
  args.picks = static_cast<int>(n.picks);
  return moe_grouped_bytes(args);
}

/// Whether ids are those of a router of x, which then is older than they are.
bool is_routed(const Match& match) {
  const Value ids = match.node().in[Op::kExpertIds], x = match.node().in[Op::kX];
  const Node& from = match.graph->node(ids.node);
  return from.as<MoeRoute>() != nullptr && from.in[MoeRoute::kX] == x;
}

ExpertsArgs args_of(const Call& call) {
  const auto& op = call.match.op<Op>();
  const Sizes n(call.match);
  const auto floats = [&](Op::Input slot) -> const float* { return call.input(slot).as<float>(); };
  return {.up_type = call.input(Op::kWeightUp).type.dtype->id,
          .down_type = call.input(Op::kWeightDown).type.dtype->id,
          .up = call.input(Op::kWeightUp).data,
          .gate = call.input(Op::kWeightGate).data,
          .down = call.input(Op::kWeightDown).data,
          .bias_up = floats(Op::kBiasUp),
          .bias_gate = floats(Op::kBiasGate),
          .bias_down = floats(Op::kBiasDown),
          .x = floats(Op::kX),
          .ids = call.input(Op::kExpertIds).as<int32_t>(),
          .weights = floats(Op::kExpertWeights),
          .tokens = extent_of(call.out[0].type, call.live),
          .experts = n.experts,
          .d = n.d,
          .f = n.f,
          .picks = static_cast<int>(n.picks),
          .act = act_of(op.activation),
          .alpha = op.alpha,
          .limit = op.limit,
          .interm = reinterpret_cast<float*>(call.workspace),
          .y = call.out[0].as<float>(),
          .x_is_old = is_routed(call.match)};
}

}  // namespace

/// int8 and gemv: few picks. half: many.
Kernel moe_experts(Products products) {
  return {.name = kernel_name(Op::name, products),
          .covers = {Op::name},
          .arithmetic = arithmetic_of(products),
          .launches = products == Products::half ? 6 : 2,
          .refuses = [products](const Match& match, const DeviceInfo&) { return refuses(products, match); },
          .layout = layout_of(products, {Op::kWeightUp, Op::kWeightGate, Op::kWeightDown}),
          .workspace = [products](const Match& match) { return workspace(products, match); },
          .prepare =
              [products](const Call& call, Steps& steps) {
                const ExpertsArgs args = args_of(call);
                if (products != Products::half) {
                  emit(steps, [args](cudaStream_t stream) { launch_moe_decode(args, stream); });
                } else {
                  emit(steps, [args, memory = call.workspace](cudaStream_t stream) {
                    launch_moe_grouped(args, memory, stream);
                  });
                }
              }};
}

}  // namespace weft::cuda
