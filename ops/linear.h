// A projection with bias.
#pragma once

#include "ops/matmul.h"

namespace weft {

struct Linear {
  static constexpr std::string_view name = "linear", doc = R"(
    y = x W^T + b.
    x [T, D] f32   weight: blocks [N_i, D] of any type   bias? N = sum N_i elements, whole or by block   ->   y [T, N].
    Source: DeepSpeed-Inference's LinearOp: takes qkv_gemm's place in post-norm models.)";
  enum Input { kX, kWeight, kBias };
  static constexpr std::array inputs = {one("x"), list("weight"), optional_list("bias")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX];
    check_activations(x, "x");
    const int64_t n = check_blocks(in.list(kWeight), x.shape[1], "weight", "x");
    check_bias(in.list(kBias), n, "bias");
    return {f32_type({x.shape[0], n}, x.rows)};
  }

  Cost cost(const Types& in, const std::vector<TensorType>&, const Workload& workload) const {
    return matmul_cost(in[kX], in.list(kWeight), workload);
  }

  std::vector<Value> lower(const Values& in) const {
    return {add_bias(matmul(in[kX], items(in, kWeight)), in.list(kBias))};
  }
};

inline Value linear(Value x, std::vector<Value> weight, std::vector<Value> bias) {
  return build(Linear{}, {x, std::move(weight), std::move(bias)})[0];
}

extern template const Schema& schema_of<Linear>();  // made once, in ops/catalogue.cpp

}  // namespace weft
