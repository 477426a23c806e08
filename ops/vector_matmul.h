// The attention output projection.
#pragma once

#include "ops/matmul.h"

namespace weft {

struct VectorMatmul {
  static constexpr std::string_view name = "vector_matmul", doc = R"(
    y = x W^T, without bias and without residual: both are added later, by mlp_gemm or residual_add.
    x [T, D] f32   weight: blocks [N_i, D] of any type   ->   y [T, N], N = sum N_i.
    Source: DeepSpeed-Inference's VectorMatMulOp.)";
  enum Input { kX, kWeight };
  static constexpr std::array inputs = {one("x"), list("weight")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX];
    check_activations(x, "x");
    return {f32_type({x.shape[0], check_blocks(in.list(kWeight), x.shape[1], "weight", "x")}, x.rows)};
  }

  Cost cost(const Types& in, const std::vector<TensorType>&, const Workload& workload) const {
    return matmul_cost(in[kX], in.list(kWeight), workload);
  }

  std::vector<Value> lower(const Values& in) const { return {matmul(in[kX], items(in, kWeight))}; }
};

inline Value vector_matmul(Value x, std::vector<Value> weight) {
  return build(VectorMatmul{}, {x, std::move(weight)})[0];
}

extern template const Schema& schema_of<VectorMatmul>();  // made once, in ops/catalogue.cpp

}  // namespace weft
