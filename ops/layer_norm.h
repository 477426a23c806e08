// Layer normalization.
#pragma once

#include "ops/reduce.h"

namespace weft {

struct LayerNorm {
  static constexpr std::string_view name = "layer_norm", doc = R"(
    y = (x - mean) / sqrt(var + eps) * gamma + beta over the last dimension, var biased.
    x [..., D] f32   gamma [D]   beta? [D]   ->   y like x.  Source: Ba, Kiros, Hinton, arXiv:1607.06450.)";
  enum Input { kX, kGamma, kBeta };
  static constexpr std::array inputs = {one("x"), one("gamma"), optional("beta")};
  static constexpr std::array outputs = {OutputSpec{"y"}};

  float eps = 1e-5f;
  static constexpr auto fields = field_list(field("eps", &LayerNorm::eps));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX];
    check_dtype(x, quant::f32, "x");
    require(x.shape.rank() > 0 && x.shape[-1] > 0, "x must have a last dimension to normalize, given {}", to_string(x));
    check_f32(in[kGamma], {x.shape[-1]}, "gamma");
    check_f32(in[kBeta], {x.shape[-1]}, "beta");
    return {x};
  }

  std::vector<Value> lower(const Values& in) const {
    const Value x = in[kX];
    const auto d = static_cast<float>(x.type().shape[-1]);
    const Value centered = sub(x, div(reduce_sum(x), d));
    const Value variance = div(reduce_sum(mul(centered, centered)), d);
    const Value y = mul(div(centered, sqrt(add(variance, eps))), in[kGamma]);
    return {in.has(kBeta) ? add(y, in[kBeta]) : y};
  }
};

inline Value layer_norm(Value x, Value gamma, Value beta, float eps) {
  return build(LayerNorm{eps}, {x, gamma, beta})[0];
}

extern template const Schema& schema_of<LayerNorm>();  // made once, in ops/catalogue.cpp

}  // namespace weft
