// The token that a sampler takes of a row's candidates.
#pragma once

#include <limits>

#include "ops/elementwise.h"
#include "ops/movement.h"
#include "ops/reduce.h"

namespace weft {

struct Sample {
  static constexpr std::string_view name = "sample", doc = R"(
    One token of each row's candidates, as models/session/sampler.h takes it, in this order: a logit l of a token that
    is fed or recent becomes l / r where l > 0, else l * r, once; the k most probable ones, all where k is 0; of those
    the fewest most probable ones that weigh top_p of them, all where top_p is 1, a weight being exp((l - largest) / t);
    of those the ones that weigh min_p of the first or more; in the order of their ids the first whose running sum
    exceeds u times the sum. t = 0: the most probable one. Of equally probable ones the lower ids are first.
    values [L, k] f32, tokens [L, k] i32: candidates, those below 0 are none   fed [L] i32   recent [L, R] i32
    options [L, 4] f32: t, top_p, min_p, r   draws [L, 3] i32: k, and u in [0, 1) as a 2^-26 + b 2^-53
    ->   [L] i32; -1 where no logit is above -infinity.)";
  enum Input { kValues, kTokens, kFed, kRecent, kOptions, kDraws };
  static constexpr std::array inputs = {one("values"), one("tokens"),  one("fed"),
                                        one("recent"), one("options"), one("draws")};
  static constexpr std::array outputs = {OutputSpec{"chosen"}};
  static constexpr auto fields = field_list();
  static constexpr int64_t kOptionColumns = 4, kDrawColumns = 3;

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType values = in[kValues];
    check_rank(values, 2, "values");
    check_f32(values, values.shape, "values");
    const int64_t rows = values.shape[0];
    require(values.shape[1] > 0, "there is nothing to choose from in {}", to_string(values));
    check_i32(in[kTokens], values.shape, "tokens");
    check_i32(in[kFed], {rows}, "fed");
    check_rank(in[kRecent], 2, "recent");
    check_i32(in[kRecent], {rows, in[kRecent].shape[1]}, "recent");
    require(in[kRecent].shape[1] > 0, "recent must have columns, given {}", to_string(in[kRecent]));
    check_f32(in[kOptions], {rows, kOptionColumns}, "options");
    check_i32(in[kDraws], {rows, kDrawColumns}, "draws");
    return {i32_type({rows}, values.rows)};
  }

  /// By comparing every candidate with every other: sums of what is before each, by probability and by id. Those are
  /// f32 here, so that a draw that falls within rounding of the border between two tokens may take the other one.
  std::vector<Value> lower(const Values& in) const {
    constexpr float none = -std::numeric_limits<float>::infinity(), most = std::numeric_limits<float>::max();
    constexpr float beyond = 0x1p25f;  // every token, which f32 counts exactly to 2^24
    const TensorType type = in[kValues].type();
    const int64_t n = type.shape[0], k = type.shape[1];
    const auto rows = [&](Value x, int64_t columns) { return reshape(x, {n, columns}, type.rows); };
    const auto of_all = [&](Value x, int64_t columns) { return reshape(x, {n, 1, columns}, type.rows); };
    const auto of_each = [&](Value x) { return reshape(x, {n, k, 1}, type.rows); };
    const Value tokens = rows(cast(in[kTokens], quant::f32), k), options = rows(in[kOptions], kOptionColumns),
                draws = rows(cast(in[kDraws], quant::f32), kDrawColumns), fed = rows(cast(in[kFed], quant::f32), 1);
    const Value temperature = slice(options, 1, 0, 1), top_p = slice(options, 1, 1, 1), min_p = slice(options, 1, 2, 1),
                penalty = slice(options, 1, 3, 1);
    const Value top_k = slice(draws, 1, 0, 1),
                u = mul(add(mul(slice(draws, 1, 1, 1), 0x1p27f), slice(draws, 1, 2, 1)), 0x1p-53f);
    const int64_t n_recent = in[kRecent].type().shape[1];
    const Value recent = of_all(cast(in[kRecent], quant::f32), n_recent);
    const Value penalized = maximum(equal(tokens, fed), rows(reduce_max(equal(of_each(tokens), recent)), k));

    const Value given = rows(in[kValues], k);
    const Value lowered = minimum(select(less(0, given), div(given, penalty), mul(given, penalty)), most);
    const Value absent = scalar(given, none), zero = scalar(given, 0);
    const Value logits = select(less(tokens, 0), absent, select(penalized, lowered, given));
    const Value larger = less(of_each(logits), of_all(logits, k)), equals = equal(of_each(logits), of_all(logits, k));
    const Value lower_id = less(of_all(tokens, k), of_each(tokens));
    const Value before = maximum(larger, mul(equals, lower_id));  // [L, k, k]: of each, what is before it

    const Value greedy = equal(temperature, 0);
    const Value places = select(greedy, scalar(u, 1), select(equal(top_k, 0), scalar(u, beyond), top_k));
    const Value kept = mul(less(none, logits), less(rows(reduce_sum(before), k), places));
    const Value scaled = div(sub(logits, reduce_max(logits)), select(greedy, scalar(u, 1), temperature));
    const Value weights = select(kept, exp(scaled), zero);
    const Value nucleus = maximum(
        less(rows(reduce_sum(mul(before, of_all(weights, k))), k), mul(top_p, reduce_sum(weights))), equal(top_p, 1));
    const Value left = select(mul(nucleus, equal(less(weights, min_p), 0)), weights, zero);

    const Value up_to = rows(reduce_sum(mul(less(of_all(tokens, k), add(of_each(tokens), 1)), of_all(left, k))), k);
    const Value some = less(0, left), passes = mul(some, less(mul(u, reduce_sum(left)), up_to));
    const Value first = neg(reduce_max(select(passes, neg(tokens), scalar(u, -beyond))));
    const Value last = reduce_max(select(some, tokens, scalar(u, -1)));
    return {reshape(cast(select(less(first, beyond), first, last), quant::i32), {n}, type.rows)};
  }
};

}  // namespace weft
