// An MLP without a norm.
#pragma once

#include "ops/activation.h"
#include "ops/linear.h"

namespace weft {

struct GeluGemm {
  static constexpr std::string_view name = "gelu_gemm", doc = R"(
    output = act(x W1^T + b1) W2^T; gated: (act(x Wgate^T + bgate) * (x Wup^T + bup)) W2^T.
    x [T, D] f32   weight: blocks [N_i, D], N = sum N_i = F; gated: N = 2 F, the rows are up, then gate
    bias? N elements, whole or by block   weight_out: blocks [M_i, F]   ->   output [T, M], M = sum M_i.
    The MLP of parallel-residual models, whose norm qkv_gemm has made.
    Source: DeepSpeed-Inference's GELUGemmOp.)";
  enum Input { kX, kWeight, kBias, kWeightOut };
  static constexpr std::array inputs = {one("x"), list("weight"), optional_list("bias"), list("weight_out")};
  static constexpr std::array outputs = {OutputSpec{"output"}};

  Activation activation = Activation::gelu_tanh;
  static constexpr auto fields = field_list(field("activation", &GeluGemm::activation));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX];
    check_activations(x, "x");
    const int64_t n = check_blocks(in.list(kWeight), x.shape[1], "weight", "x");
    const int64_t m = check_mlp(activation, n, in.list(kBias), in.list(kWeightOut));
    return {f32_type({x.shape[0], m}, x.rows)};
  }

  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    Cost cost = matmul_cost(in[kX], in.list(kWeight), workload);
    cost +=
        matmul_cost(f32_type({out[0].shape[0], in[kWeightOut].shape[1]}, out[0].rows), in.list(kWeightOut), workload);
    return cost;
  }

  /// Checks what follows the first projection (n wide) of an MLP; the width of its output.
  static int64_t check_mlp(Activation activation, int64_t n, std::span<const TensorType> bias,
                           std::span<const TensorType> weight_out) {
    check_bias(bias, n, "bias");
    require(activation != Activation::gated_swiglu_clamped, "{} belongs to moe_experts", to_string(activation));
    require(!is_gated(activation) || n % 2 == 0, "{} needs as many up rows as gate rows, given {} in all",
            to_string(activation), n);
    return check_blocks(weight_out, is_gated(activation) ? n / 2 : n, "weight_out", "the activation");
  }

  std::vector<Value> lower(const Values& in) const {
    const Value h = linear(in[kX], items(in, kWeight), items(in, kBias));
    const int64_t f = h.type().shape[1] / 2;
    const Value a =
        is_gated(activation) ? activate(activation, slice(h, 1, 0, f), slice(h, 1, f, f)) : activate(activation, h);
    return {matmul(a, items(in, kWeightOut))};
  }
};

inline Value gelu_gemm(Activation activation, Value x, std::vector<Value> weight, std::vector<Value> bias,
                       std::vector<Value> weight_out) {
  return build(GeluGemm{activation}, {x, std::move(weight), std::move(bias), std::move(weight_out)})[0];
}

extern template const Schema& schema_of<GeluGemm>();  // made once, in ops/catalogue.cpp

}  // namespace weft
