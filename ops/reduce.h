// Primitives over the last dimension.
#pragma once

#include "ops/elementwise.h"

namespace weft {

template <OpText kName, OpText kDoc>
struct Reduce {
  static constexpr std::string_view name = kName.view(), doc = kDoc.view();
  enum Input { kX };
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const {
    TensorType type = in[kX];
    check_dtype(type, quant::f32, "x");
    require(type.shape.rank() > 0 && type.shape[-1] > 0, "x must have a last dimension to reduce, given {}",
            to_string(type));
    type.shape.set(-1, 1);
    if (type.shape.rank() == 1) type.rows = Rows::all;
    return {type};
  }
};

using ReduceSum = Reduce<"reduce_sum", "x [..., K] f32 -> the sum of each row [..., 1].">;
using ReduceMax = Reduce<"reduce_max", "x [..., K] f32 -> the largest of each row [..., 1].">;

struct TopK {
  static constexpr std::string_view name = "top_k", doc = R"(
    The k largest of each row, descending, the lowest index first on ties.
    x [..., K] f32   ->   values [..., k] f32, indices [..., k] i32, always in [0, K).)";
  enum Input { kX };
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"values"}, OutputSpec{"indices"}};
  int64_t k = 1;
  static constexpr auto fields = field_list(field("k", &TopK::k));

  std::vector<TensorType> infer(const Types& in) const {
    TensorType values = in[kX];
    check_dtype(values, quant::f32, "x");
    require(values.shape.rank() > 0 && k >= 1 && k <= values.shape[-1], "cannot take the {} largest of {}", k,
            to_string(values));
    values.shape.set(-1, k);
    if (values.shape.rank() == 1) values.rows = Rows::all;
    return {values, i32_type(values.shape, values.rows)};
  }
};

inline Value reduce_sum(Value x) { return build(ReduceSum{}, {x})[0]; }
inline Value reduce_max(Value x) { return build(ReduceMax{}, {x})[0]; }
/// (values, indices)
inline std::pair<Value, Value> top_k(Value x, int64_t k) {
  const auto out = build(TopK{k}, {x});
  return {out[0], out[1]};
}

}  // namespace weft
