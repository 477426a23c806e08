// The MLPs of a mixture of experts.
#pragma once

#include "ops/activation.h"
#include "ops/indexing.h"
#include "ops/matmul.h"

namespace weft {

struct MoeExperts {
  static constexpr std::string_view name = "moe_experts", doc = R"(
    output = sum over the k experts e of a token of expert_weight *
    (act(gate = x Wgate_e^T + bgate_e, up = x Wup_e^T + bup_e) Wdown_e^T + bdown_e), act gated.
    gated_swiglu_clamped (gpt-oss): g = min(gate, limit), u = clamp(up, -limit, limit),
    (u + 1) g sigmoid(alpha g); alpha and limit play no part otherwise.
    x [T, D] f32   expert_ids [T, k] i32   expert_weights [T, k] f32
    weight_up, weight_gate [E, F, D], weight_down [E, D, F] of any type
    bias_up?, bias_gate? [E, F]   bias_down? [E, D]   ->   output [T, D].)";
  enum Input { kX, kExpertIds, kExpertWeights, kWeightUp, kWeightGate, kWeightDown, kBiasUp, kBiasGate, kBiasDown };
  static constexpr std::array inputs = {
      one("x"),           one("expert_ids"),   one("expert_weights"), one("weight_up"),     one("weight_gate"),
      one("weight_down"), optional("bias_up"), optional("bias_gate"), optional("bias_down")};
  static constexpr std::array outputs = {OutputSpec{"output"}};

  Activation activation = Activation::gated_silu;
  float alpha = 1.702f;
  float limit = 7;
  static constexpr auto fields = field_list(field("activation", &MoeExperts::activation),
                                            field("alpha", &MoeExperts::alpha), field("limit", &MoeExperts::limit));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX], up = in[kWeightUp];
    check_activations(x, "x");
    require(is_gated(activation), "the activation must be gated, given {}", to_string(activation));
    check_rank(in[kExpertIds], 2, "expert_ids");
    const int64_t t = x.shape[0], d = x.shape[1], k = in[kExpertIds].shape[1];
    check_i32(in[kExpertIds], {t, k}, "expert_ids");
    check_f32(in[kExpertWeights], {t, k}, "expert_weights");
    check_rank(up, 3, "weight_up");
    const int64_t experts = up.shape[0], f = up.shape[1];
    check_weight(up, {experts, f, d}, "weight_up");
    check_weight(in[kWeightGate], {experts, f, d}, "weight_gate");
    check_weight(in[kWeightDown], {experts, d, f}, "weight_down");
    check_f32(in[kBiasUp], {experts, f}, "bias_up");
    check_f32(in[kBiasGate], {experts, f}, "bias_gate");
    check_f32(in[kBiasDown], {experts, d}, "bias_down");
    return {f32_type(x.shape, common_rows({x, in[kExpertIds], in[kExpertWeights]}))};
  }

  /// An expert's weights are read once if any token picked it; picks are taken as evenly spread.
  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    const auto experts = static_cast<double>(in[kWeightUp].shape[0]);
    const auto picks = static_cast<double>(live_rows(out[0], workload) * in[kExpertIds].shape[1]);
    Cost cost;
    for (const Input weight : {kWeightUp, kWeightGate, kWeightDown}) {
      cost.flops += 2 * picks * static_cast<double>(in[weight].shape.elements()) / experts;
      cost.weight_bytes += static_cast<double>(in[weight].bytes()) / experts * std::min(picks, experts);
    }
    cost.activation_bytes = live_bytes(in[kX], workload) + live_bytes(out[0], workload);
    return cost;
  }

  std::vector<Value> lower(const Values& in) const {
    const Value x = in[kX], ids = in[kExpertIds];
    const int64_t t = x.type().shape[0], d = x.type().shape[1], k = ids.type().shape[1];
    const Value up = through_experts(x, ids, in[kWeightUp], in[kBiasUp]);
    const Value gate = through_experts(x, ids, in[kWeightGate], in[kBiasGate]);
    const Value down = through_experts(activate(activation, up, gate, alpha, limit), ids, in[kWeightDown],
                                       in[kBiasDown]);  // [T, k, D]
    const Value sum = batch_matmul(reshape(in[kExpertWeights], {t, 1, k}), down, /*transpose_b=*/false);
    return {reshape(sum, {t, d})};
  }

 private:
  /// x [T, ...] through the matrix and bias of every expert it goes to -> [T, k, N].
  static Value through_experts(Value x, Value ids, Value weight, Value bias) {
    const Value y = indexed_matmul(x, ids, weight);
    if (!bias) return y;
    const Shape shape = y.type().shape;
    const Value flat_ids = reshape(ids, {shape[0] * shape[1]}, Rows::all);
    return add(y, reshape(gather_rows(bias, flat_ids), {shape[0], shape[1], shape[2]}, Rows::all));
  }

  static void check_weight(const TensorType& weight, const Shape& shape, std::string_view what) {
    require(weight.shape == shape, "{} must be {}, given {}", what, to_string(shape), to_string(weight));
  }
};

extern template const Schema& schema_of<MoeExperts>();  // made once, in ops/catalogue.cpp

}  // namespace weft
