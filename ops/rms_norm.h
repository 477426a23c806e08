// Root-mean-square normalization.
#pragma once

#include "ops/reduce.h"

namespace weft {

struct RmsNorm {
  static constexpr std::string_view name = "rms_norm", doc = R"(
    y = x / sqrt(mean(x^2) + eps) * gamma over the last dimension; no +1: a model that stores
    gamma - 1 adds it on load.
    x [..., D] f32   gamma [D]   ->   y like x.  Source: Zhang, Sennrich, arXiv:1910.07467.)";
  enum Input { kX, kGamma };
  static constexpr std::array inputs = {one("x"), one("gamma")};
  static constexpr std::array outputs = {OutputSpec{"y"}};

  float eps = 1e-6f;
  static constexpr auto fields = field_list(field("eps", &RmsNorm::eps));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX];
    check_dtype(x, quant::f32, "x");
    require(x.shape.rank() > 0 && x.shape[-1] > 0, "x must have a last dimension to normalize, given {}", to_string(x));
    check_f32(in[kGamma], {x.shape[-1]}, "gamma");
    return {x};
  }

  std::vector<Value> lower(const Values& in) const {
    const Value x = in[kX];
    const Value mean_square = div(reduce_sum(mul(x, x)), static_cast<float>(x.type().shape[-1]));
    return {mul(div(x, sqrt(add(mean_square, eps))), in[kGamma])};
  }
};

inline Value rms_norm(Value x, Value gamma, float eps) { return build(RmsNorm{eps}, {x, gamma})[0]; }

extern template const Schema& schema_of<RmsNorm>();  // made once, in ops/catalogue.cpp

}  // namespace weft
