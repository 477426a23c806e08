// The second half of a sequential layer: residual, norm, MLP.
#pragma once

#include "ops/gelu_gemm.h"
#include "ops/norm.h"

namespace weft {

struct MlpGemm {
  static constexpr std::string_view name = "mlp_gemm", doc = R"(
    s = input + residual + input_bias,  h = norm(s),  output = act(h W1^T + b1) W2^T;
    gated: (act(h Wgate^T + bgate) * (h Wup^T + bup)) W2^T.  residual_add is h for LayerNorm and s for RMSNorm.
    input [T, D] f32: what vector_matmul gave   residual [T, D]: the layer's input
    input_bias? [D]   gamma [D]   beta? [D]
    weight_interm: blocks [N_i, D], N = sum N_i = F; gated: N = 2 F, the rows are up, then gate (one block or several)
    bias? N elements, whole or by block   weight_out: blocks [M_i, F], sum M_i = D   ->   output, residual_add [T, D].
    Source: DeepSpeed-Inference's MLPGemmOp.)";
  enum Input { kInput, kResidual, kInputBias, kGamma, kBeta, kWeightInterm, kBias, kWeightOut };
  static constexpr std::array inputs = {one("input"),          one("residual"),   optional("input_bias"),
                                        one("gamma"),          optional("beta"),  list("weight_interm"),
                                        optional_list("bias"), list("weight_out")};
  static constexpr std::array outputs = {OutputSpec{"output"}, OutputSpec{"residual_add"}};

  NormKind norm = NormKind::layer;
  float eps = 1e-5f;
  Activation activation = Activation::gelu_tanh;
  static constexpr auto fields =
      field_list(field("norm", &MlpGemm::norm), field("eps", &MlpGemm::eps), field("activation", &MlpGemm::activation));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kInput];
    check_activations(x, "input");
    const int64_t d = x.shape[1];
    check_f32(in[kResidual], x.shape, "residual");
    check_f32(in[kInputBias], {d}, "input_bias");
    check_f32(in[kGamma], {d}, "gamma");
    check_f32(in[kBeta], {d}, "beta");
    require(norm == NormKind::layer || !in.has(kBeta), "RMSNorm takes no beta");
    const int64_t n = check_blocks(in.list(kWeightInterm), d, "weight_interm", "input");
    const int64_t m = GeluGemm::check_mlp(activation, n, in.list(kBias), in.list(kWeightOut));
    require(m == d, "weight_out has {} rows, input has {} columns", m, d);
    const Rows rows = common_rows({x, in[kResidual]});
    return {f32_type(x.shape, rows), f32_type(x.shape, rows)};
  }

  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    const TensorType hidden = f32_type({out[0].shape[0], in[kWeightOut].shape[1]}, out[0].rows);
    Cost cost = matmul_cost(out[0], in.list(kWeightInterm), workload);
    cost += matmul_cost(hidden, in.list(kWeightOut), workload);
    cost.flops += 10 * live_bytes(out[1], workload) / sizeof(float);
    cost.activation_bytes += 2 * live_bytes(out[1], workload);
    return cost;
  }

  std::vector<Value> lower(const Values& in) const {
    Value s = add(in[kInput], in[kResidual]);
    if (in.has(kInputBias)) s = add(s, in[kInputBias]);
    const Value h = weft::norm(norm, s, in[kGamma], in[kBeta], eps);
    const Value output = gelu_gemm(activation, h, items(in, kWeightInterm), items(in, kBias), items(in, kWeightOut));
    return {output, norm == NormKind::layer ? h : s};
  }
};

extern template const Schema& schema_of<MlpGemm>();  // made once, in ops/catalogue.cpp

}  // namespace weft
