// The router of a mixture of experts.
#pragma once

#include "ops/enums.h"
#include "ops/matmul.h"
#include "ops/softmax.h"

namespace weft {

/// How router logits become k weights.
enum class Gating : uint8_t {
  softmax_topk_renorm,  // softmax, the k largest, divided by their sum (Mixtral, Qwen3)
  softmax_topk,         // softmax, the k largest (Qwen2)
  topk_softmax,         // the k largest logits, softmax over them (gpt-oss)
};

inline constexpr EnumNames<Gating, 3> kGatings = {{{Gating::softmax_topk_renorm, "softmax_topk_renorm"},
                                                   {Gating::softmax_topk, "softmax_topk"},
                                                   {Gating::topk_softmax, "topk_softmax"}}};
inline std::string_view to_string(Gating gating) { return enum_name(kGatings, gating); }
inline Gating parse_gating(std::string_view text) { return parse_enum(kGatings, "gating", text); }

struct MoeRoute {
  static constexpr std::string_view name = "moe_route", doc = R"(
    logits = x W^T + b; the k experts of each token and their weights, by gating: softmax_topk_renorm, softmax_topk or
    topk_softmax. Largest first, the lower id first on ties.
    x [T, D] f32   weight: blocks [E_i, D] of any type, E = sum E_i   bias? [E]
    ->   expert_ids [T, k] i32, expert_weights [T, k] f32.)";
  enum Input { kX, kWeight, kBias };
  static constexpr std::array inputs = {one("x"), list("weight"), optional("bias")};
  static constexpr std::array outputs = {OutputSpec{"expert_ids"}, OutputSpec{"expert_weights"}};

  Gating gating = Gating::softmax_topk_renorm;
  int experts_per_token = 1;
  static constexpr auto fields =
      field_list(field("gating", &MoeRoute::gating), field("experts_per_token", &MoeRoute::experts_per_token));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX];
    check_activations(x, "x");
    const int64_t experts = check_blocks(in.list(kWeight), x.shape[1], "weight", "x");
    check_f32(in[kBias], {experts}, "bias");
    require(experts_per_token >= 1 && experts_per_token <= experts, "cannot pick {} of {} experts", experts_per_token,
            experts);
    const Shape shape{x.shape[0], experts_per_token};
    return {i32_type(shape, x.rows), f32_type(shape, x.rows)};
  }

  Cost cost(const Types& in, const std::vector<TensorType>&, const Workload& workload) const {
    return matmul_cost(in[kX], in.list(kWeight), workload);
  }

  std::vector<Value> lower(const Values& in) const {
    const Value scores = matmul(in[kX], items(in, kWeight));
    const Value logits = in.has(kBias) ? add(scores, in[kBias]) : scores;
    if (gating == Gating::topk_softmax) {
      const auto [values, ids] = top_k(logits, experts_per_token);
      return {ids, softmax(values)};
    }
    const auto [values, ids] = top_k(softmax(logits), experts_per_token);
    return {ids, gating == Gating::softmax_topk ? values : div(values, reduce_sum(values))};
  }
};

extern template const Schema& schema_of<MoeRoute>();  // made once, in ops/catalogue.cpp

}  // namespace weft
