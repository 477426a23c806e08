// What a sampler looks at: the largest logits and the tokens they belong to.
#pragma once

#include <limits>

#include "ops/elementwise.h"
#include "ops/reduce.h"

namespace weft {

struct Candidates {
  static constexpr std::string_view name = "candidates", doc = R"(
    The k largest logits of each row, descending, and their tokens; of equal ones the lowest token first. NaN counts as
    -infinity, +infinity as the largest finite number. Where fewer than k are above -infinity, the rest are -infinity
    with token -1.
    logits [L, V] f32   ->   values [L, k] f32, tokens [L, k] i32.)";
  enum Input { kLogits };
  static constexpr std::array inputs = {one("logits")};
  static constexpr std::array outputs = {OutputSpec{"values"}, OutputSpec{"tokens"}};
  int64_t k = 1;
  static constexpr auto fields = field_list(field("k", &Candidates::k));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType logits = in[kLogits];
    check_rank(logits, 2, "logits");
    check_dtype(logits, quant::f32, "logits");
    const int64_t n = logits.shape[1];
    require(k >= 1 && k <= n, "cannot take the {} largest of {}", k, to_string(logits));
    require(n <= int64_t{1} << 24, "f32 counts exactly to 2^24, logits are {}", to_string(logits));
    return {f32_type({logits.shape[0], k}, logits.rows), i32_type({logits.shape[0], k}, logits.rows)};
  }

  std::vector<Value> lower(const Values& in) const {
    constexpr float none = -std::numeric_limits<float>::infinity(), most = std::numeric_limits<float>::max();
    const Value x = in[kLogits];
    const auto [values, ids] = top_k(minimum(select(equal(x, x), x, scalar(x, none)), most), k);
    const Value tokens = select(less(none, values), cast(ids, quant::f32), scalar(x, -1));
    return {values, cast(tokens, quant::i32)};
  }
};

/// (values, tokens)
inline std::pair<Value, Value> candidates(Value logits, int64_t k) {
  const auto out = build(Candidates{k}, {logits})[0];
  return {out, Value{out.graph, out.node, 1}};
}

}  // namespace weft
