// Normalization and the projection to queries, keys and values.
#pragma once

#include "ops/linear.h"
#include "ops/norm.h"

namespace weft {

struct QkvGemm {
  static constexpr std::string_view name = "qkv_gemm", doc = R"(
    (qkv, norm) = (norm(x) W^T + b, norm(x)),  norm = LayerNorm(gamma, beta, eps) or RMSNorm(gamma, eps).
    x [T, D] f32   weight: blocks [N_i, D] of any type   bias? N = sum N_i elements, whole or by block
    gamma [D]   beta? [D]   ->   qkv [T, N], norm [T, D].  Models with parallel residuals read norm.
    Source: the fused op of the same name in DeepSpeed-Inference.)";
  enum Input { kX, kWeight, kBias, kGamma, kBeta };
  static constexpr std::array inputs = {one("x"), list("weight"), optional_list("bias"), one("gamma"),
                                        optional("beta")};
  static constexpr std::array outputs = {OutputSpec{"qkv"}, OutputSpec{"norm"}};

  NormKind norm = NormKind::layer;
  float eps = 1e-5f;
  static constexpr auto fields = field_list(field("norm", &QkvGemm::norm), field("eps", &QkvGemm::eps));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX];
    check_activations(x, "x");
    const int64_t d = x.shape[1], n = check_blocks(in.list(kWeight), d, "weight", "x");
    check_bias(in.list(kBias), n, "bias");
    check_f32(in[kGamma], {d}, "gamma");
    check_f32(in[kBeta], {d}, "beta");
    require(norm == NormKind::layer || !in.has(kBeta), "RMSNorm takes no beta");
    return {f32_type({x.shape[0], n}, x.rows), f32_type(x.shape, x.rows)};
  }

  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    Cost cost = matmul_cost(in[kX], in.list(kWeight), workload);
    cost.flops += 8 * live_bytes(out[1], workload) / sizeof(float);
    cost.activation_bytes += live_bytes(out[1], workload);
    return cost;
  }

  std::vector<Value> lower(const Values& in) const {
    const Value h = weft::norm(norm, in[kX], in[kGamma], in[kBeta], eps);
    return {linear(h, items(in, kWeight), items(in, kBias)), h};
  }
};

extern template const Schema& schema_of<QkvGemm>();  // made once, in ops/catalogue.cpp

}  // namespace weft
