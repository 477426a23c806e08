// The end of a layer: everything back into the residual stream.
#pragma once

#include "ops/elementwise.h"

namespace weft {

struct ResidualAdd {
  static constexpr std::string_view name = "residual_add", doc = R"(
    sequential, pre-norm    (residual + attention + attention_bias + final_bias) / mp + hidden
    sequential, post-norm   residual + hidden + final_bias       (residual is mlp_gemm's second output)
    parallel                hidden + attention + (residual + final_bias + attention_bias) / mp
    sequential = mlp_after_attn, pre-norm = pre_layer_norm (no part in a parallel layer), mp = tensor-parallel size.
    hidden: the MLP's output, residual, attention?: [T, D] f32   attention_bias?, final_bias?: [D]   ->   output [T, D].
    An absent term is zero. Source: DeepSpeed-Inference's ResidualAddOp.)";
  enum Input { kHidden, kResidual, kAttention, kAttentionBias, kFinalBias };
  static constexpr std::array inputs = {one("hidden"), one("residual"), optional("attention"),
                                        optional("attention_bias"), optional("final_bias")};
  static constexpr std::array outputs = {OutputSpec{"output"}};

  bool mlp_after_attn = true;
  bool pre_layer_norm = true;
  int mp_size = 1;
  static constexpr auto fields =
      field_list(field("mlp_after_attn", &ResidualAdd::mlp_after_attn),
                 field("pre_layer_norm", &ResidualAdd::pre_layer_norm), field("mp_size", &ResidualAdd::mp_size));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType hidden = in[kHidden];
    check_activations(hidden, "hidden");
    require(mp_size >= 1, "mp_size must be at least 1, given {}", mp_size);
    check_f32(in[kResidual], hidden.shape, "residual");
    check_f32(in[kAttention], hidden.shape, "attention");
    check_f32(in[kAttentionBias], {hidden.shape[1]}, "attention_bias");
    check_f32(in[kFinalBias], {hidden.shape[1]}, "final_bias");
    const bool attends = !mlp_after_attn || pre_layer_norm;
    return {f32_type(hidden.shape, common_rows({hidden, in[kResidual], attends ? in[kAttention] : TensorType{}}))};
  }

  std::vector<Value> lower(const Values& in) const {
    const Value hidden = in[kHidden], residual = in[kResidual], attention = in[kAttention];
    const Value attention_bias = in[kAttentionBias], final_bias = in[kFinalBias];
    const auto shared = [&](Value x) { return mp_size == 1 ? x : div(x, static_cast<float>(mp_size)); };
    if (!mlp_after_attn) return {sum({hidden, attention, shared(sum({residual, final_bias, attention_bias}))})};
    if (!pre_layer_norm) return {sum({residual, hidden, final_bias})};
    return {add(shared(sum({residual, attention, attention_bias, final_bias})), hidden)};
  }

 private:
  /// Of the terms that are there; the first is.
  static Value sum(std::initializer_list<Value> terms) {
    Value total;
    for (const Value& term : terms) {
      if (term) total = total ? add(total, term) : term;
    }
    return total;
  }
};

extern template const Schema& schema_of<ResidualAdd>();  // made once, in ops/catalogue.cpp

}  // namespace weft
