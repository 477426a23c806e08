// Rotary position embedding.
#pragma once

#include <cmath>

#include "ops/elementwise.h"
#include "ops/enums.h"
#include "ops/movement.h"

namespace weft {

/// Which elements of a head form a pair: none rotate, (i, i + rotary_dim / 2), or (2i, 2i + 1).
enum class Rotary : uint8_t { none, half, interleaved };

inline constexpr EnumNames<Rotary, 3> kRotaries = {
    {{Rotary::none, "none"}, {Rotary::half, "half"}, {Rotary::interleaved, "interleaved"}}};
inline std::string_view to_string(Rotary rotary) { return enum_name(kRotaries, rotary); }
inline Rotary parse_rotary(std::string_view text) { return parse_enum(kRotaries, "rotary style", text); }

struct Rope {
  static constexpr std::string_view name = "rope", doc = R"(
    Rotates pairs of each head: (a, b) -> (a cos - b sin, b cos + a sin), cos and sin times attn_scale, of the angle
    position * theta^(-2i / rotary_dim) / factors[i]; frequency and angle are rounded to f32, as models were trained.
    half: pairs (i, i + rotary_dim / 2); interleaved: (2i, 2i + 1). Elements past rotary_dim pass through.
    x [T, H, d] f32   positions [T] i32   factors? [rotary_dim / 2] f32   ->   y like x.
    Source: Su et al., arXiv:2104.09864.)";
  enum Input { kX, kPositions, kFactors };
  static constexpr std::array inputs = {one("x"), one("positions"), optional("factors")};
  static constexpr std::array outputs = {OutputSpec{"y"}};

  Rotary rotary = Rotary::half;
  int rotary_dim = 0;
  float theta = 10000;
  float attn_scale = 1;
  static constexpr auto fields = field_list(field("rotary", &Rope::rotary), field("rotary_dim", &Rope::rotary_dim),
                                            field("theta", &Rope::theta), field("attn_scale", &Rope::attn_scale));

  std::vector<TensorType> infer(const Types& in) const {
    TensorType x = in[kX];
    check_dtype(x, quant::f32, "x");
    check_rank(x, 3, "x");
    check_i32(in[kPositions], {x.shape[0]}, "positions");
    require(rotary != Rotary::none, "a rope needs a rotary style, half or interleaved");
    require(rotary_dim > 0 && rotary_dim % 2 == 0 && rotary_dim <= x.shape[2],
            "rotary_dim must be even, more than 0 and at most {}, given {}", x.shape[2], rotary_dim);
    check_f32(in[kFactors], {rotary_dim / 2}, "factors");
    x.rows = common_rows({x, in[kPositions]});
    return {x};
  }

  std::vector<Value> lower(const Values& in) const {
    const Value x = in[kX];
    const Shape shape = x.type().shape;
    const int64_t t = shape[0], h = shape[1], d = shape[2], half = rotary_dim / 2;
    const Value angle = mul(reshape(cast(in[kPositions], quant::f32), {t, 1}), frequencies(in));  // [T, half]
    const Value turned = slice(x, 2, 0, rotary_dim);
    Value y;
    if (rotary == Rotary::half) {
      y = concat(2, rotate(slice(turned, 2, 0, half), slice(turned, 2, half, half), reshape(angle, {t, 1, half})));
    } else {
      const Value pairs = reshape(turned, {t, h, half, 2});
      const auto rotated = rotate(slice(pairs, 3, 0, 1), slice(pairs, 3, 1, 1), reshape(angle, {t, 1, half, 1}));
      y = reshape(concat(3, rotated), {t, h, rotary_dim});
    }
    if (rotary_dim == d) return {y};
    return {concat(2, {y, slice(x, 2, rotary_dim, d - rotary_dim)})};
  }

  /// Radians per position of pair i, before factors.
  float frequency(int i) const {
    return static_cast<float>(std::pow(static_cast<double>(theta), -2.0 * i / rotary_dim));
  }

 private:
  Value frequencies(const Values& in) const {
    std::vector<float> values;
    for (int i = 0; i < rotary_dim / 2; ++i) values.push_back(frequency(i));
    const Value base = constant(*in[kX].graph, std::move(values), {rotary_dim / 2});
    return in.has(kFactors) ? div(base, in[kFactors]) : base;
  }

  std::vector<Value> rotate(Value a, Value b, Value angle) const {
    const Value c = scaled(cos(angle)), s = scaled(sin(angle));
    return {sub(mul(a, c), mul(b, s)), add(mul(b, c), mul(a, s))};
  }

  Value scaled(Value x) const { return attn_scale == 1 ? x : mul(x, attn_scale); }
};

inline Value rope(Rope op, Value x, Value positions, Value factors) { return build(op, {x, positions, factors})[0]; }

extern template const Schema& schema_of<Rope>();  // made once, in ops/catalogue.cpp

}  // namespace weft
