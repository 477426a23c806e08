// Softmax over the last dimension.
#pragma once

#include "ops/reduce.h"

namespace weft {

struct Softmax {
  static constexpr std::string_view name = "softmax", doc = R"(
    y = exp(x - max) / sum exp(x - max) over the last dimension.  x [..., K] f32   ->   y like x.)";
  enum Input { kX };
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX];
    check_dtype(x, quant::f32, "x");
    require(x.shape.rank() > 0 && x.shape[-1] > 0, "x must have a last dimension, given {}", to_string(x));
    return {x};
  }

  std::vector<Value> lower(const Values& in) const {
    const Value x = in[kX];
    const Value e = exp(sub(x, reduce_max(x)));
    return {div(e, reduce_sum(e))};
  }
};

inline Value softmax(Value x) { return build(Softmax{}, {x})[0]; }

extern template const Schema& schema_of<Softmax>();  // made once, in ops/catalogue.cpp

}  // namespace weft
