// Primitives that work element by element.
#pragma once

#include "ops/build.h"
#include "ops/check.h"

namespace weft {

/// A string as a template argument.
template <size_t N>
struct OpText {
  consteval OpText(const char (&literal)[N]) { std::copy_n(literal, N, text); }  // NOLINT(google-explicit-constructor)
  constexpr std::string_view view() const { return {text, N - 1}; }
  char text[N] = {};
};

// -- one input
// ----------------------------------------------------------------------------------------------------------

template <OpText kName, OpText kDoc>
struct Unary {
  static constexpr std::string_view name = kName.view(), doc = kDoc.view();
  enum Input { kX };
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const {
    check_dtype(in[kX], quant::f32, "x");
    return {in[kX]};
  }
};

using Neg = Unary<"neg", "y = -x, f32.">;
using Exp = Unary<"exp", "y = e^x, f32.">;
using Log = Unary<"log", "y = ln x, f32.">;
using Sqrt = Unary<"sqrt", "y = sqrt(x), f32.">;
using Reciprocal = Unary<"reciprocal", "y = 1 / x, f32.">;
using Tanh = Unary<"tanh", "y = tanh(x), f32.">;
using Erf = Unary<"erf", "y = erf(x), f32.">;
using Sin = Unary<"sin", "y = sin(x), f32, x in radians.">;
using Cos = Unary<"cos", "y = cos(x), f32, x in radians.">;
using Floor = Unary<"floor", "y = the largest integer <= x, f32.">;
using Abs = Unary<"abs", "y = |x|, f32.">;

inline Value neg(Value x) { return build(Neg{}, {x})[0]; }
inline Value exp(Value x) { return build(Exp{}, {x})[0]; }
inline Value log(Value x) { return build(Log{}, {x})[0]; }
inline Value sqrt(Value x) { return build(Sqrt{}, {x})[0]; }
inline Value reciprocal(Value x) { return build(Reciprocal{}, {x})[0]; }
inline Value tanh(Value x) { return build(Tanh{}, {x})[0]; }
inline Value erf(Value x) { return build(Erf{}, {x})[0]; }
inline Value sin(Value x) { return build(Sin{}, {x})[0]; }
inline Value cos(Value x) { return build(Cos{}, {x})[0]; }
inline Value floor(Value x) { return build(Floor{}, {x})[0]; }
inline Value abs(Value x) { return build(Abs{}, {x})[0]; }

// -- several inputs, broadcast
// --------------------------------------------------------------------------------------------

/// The f32 type that several f32 inputs broadcast to: aligned at the last dimension, where a dimension of 1 repeats.
inline TensorType broadcast(std::initializer_list<TensorType> types) {
  Shape shape;
  for (const TensorType& type : types) {
    check_dtype(type, quant::f32, "an input");
    const Shape before = shape;
    shape = before.rank() >= type.shape.rank() ? before : type.shape;
    const Shape& shorter = before.rank() >= type.shape.rank() ? type.shape : before;
    for (int i = -1; i >= -shorter.rank(); --i) {
      const int64_t a = shape[i], b = shorter[i];
      require(a == b || a == 1 || b == 1, "{} does not broadcast with {}", to_string(type.shape), to_string(before));
      shape.set(i, a == 1 ? b : a);
    }
  }
  Rows rows = Rows::all;
  for (const TensorType& type : types) {
    const bool leads = type.shape.rank() == shape.rank() && shape.rank() > 0 && type.shape[0] == shape[0];
    if (leads) rows = common_rows({type, f32_type({}, rows)});
  }
  return f32_type(shape, rows);
}

template <OpText kName, OpText kDoc>
struct Binary {
  static constexpr std::string_view name = kName.view(), doc = kDoc.view();
  enum Input { kA, kB };
  static constexpr std::array inputs = {one("a"), one("b")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const { return {broadcast({in[kA], in[kB]})}; }
};

using Add = Binary<"add", "y = a + b, f32, broadcast from the last dimension.">;
using Sub = Binary<"sub", "y = a - b, f32, broadcast from the last dimension.">;
using Mul = Binary<"mul", "y = a * b, f32, broadcast from the last dimension.">;
using Div = Binary<"div", "y = a / b, f32, broadcast from the last dimension.">;
using Maximum = Binary<"maximum", "y = max(a, b), f32, broadcast from the last dimension.">;
using Minimum = Binary<"minimum", "y = min(a, b), f32, broadcast from the last dimension.">;
using Less = Binary<"less", "y = a < b ? 1 : 0, f32, broadcast from the last dimension.">;
using Equal = Binary<"equal", "y = a == b ? 1 : 0, f32, broadcast from the last dimension.">;

struct Select {
  static constexpr std::string_view name = "select", doc = R"(
    y = cond != 0 ? a : b, f32, broadcast from the last dimension. What is not selected may be NaN.)";
  enum Input { kCond, kA, kB };
  static constexpr std::array inputs = {one("cond"), one("a"), one("b")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const { return {broadcast({in[kCond], in[kA], in[kB]})}; }
};

// -- sources and conversions
// ----------------------------------------------------------------------------------------------

/// f32 values as an attribute.
struct Literals {
  std::vector<float> values;
};

inline std::string field_text(const Literals& literals) {
  std::string text = "[";
  for (size_t i = 0; i < literals.values.size() && i < 8; ++i) {
    text += (i == 0 ? "" : ", ") + field_text(literals.values[i]);
  }
  return text + (literals.values.size() > 8 ? fmt::format(", ... {}]", literals.values.size()) : "]");
}

struct Constant {
  static constexpr std::string_view name = "constant", doc = "y = the values, f32, in the given shape.";
  static constexpr std::array<SlotSpec, 0> inputs{};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  Literals values;
  std::vector<int64_t> shape;
  static constexpr auto fields = field_list(field("values", &Constant::values), field("shape", &Constant::shape));

  std::vector<TensorType> infer(const Types&) const {
    const Shape dims{std::span<const int64_t>(shape)};
    require(dims.elements() == static_cast<int64_t>(values.values.size()), "{} values cannot have the shape {}",
            values.values.size(), to_string(dims));
    return {f32_type(dims)};
  }
};

struct Cast {
  static constexpr std::string_view name = "cast", doc = R"(
    y = x as another type: any type to f32 (weights are decoded), or f32 to f16, bf16 (to nearest even) or i32 (towards
    zero, saturating, NaN gives 0).)";
  /// Never computed ahead: a decoded weight would be several times its size.
  static constexpr bool foldable = false;
  enum Input { kX };
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  DType dtype = quant::f32;
  static constexpr auto fields = field_list(field("dtype", &Cast::dtype));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX];
    const bool encodes = dtype == quant::i32 || (dtype && dtype->is_float);
    require(dtype == quant::f32 || (x.dtype == quant::f32 && encodes), "cannot cast {} to {}", to_string(x),
            dtype.name());
    return {{dtype, x.shape, x.rows}};
  }
};

inline Value constant(Graph& graph, std::vector<float> values, std::vector<int64_t> shape) {
  return graph.add(Constant{{std::move(values)}, std::move(shape)}, {})[0];
}
/// One number, in the graph of `x`.
inline Value scalar(Value x, float value) { return constant(*x.graph, {value}, {1}); }

inline Value add(Value a, Value b) { return build(Add{}, {a, b})[0]; }
inline Value sub(Value a, Value b) { return build(Sub{}, {a, b})[0]; }
inline Value mul(Value a, Value b) { return build(Mul{}, {a, b})[0]; }
inline Value div(Value a, Value b) { return build(Div{}, {a, b})[0]; }
inline Value maximum(Value a, Value b) { return build(Maximum{}, {a, b})[0]; }
inline Value minimum(Value a, Value b) { return build(Minimum{}, {a, b})[0]; }
inline Value less(Value a, Value b) { return build(Less{}, {a, b})[0]; }
inline Value equal(Value a, Value b) { return build(Equal{}, {a, b})[0]; }
inline Value select(Value cond, Value a, Value b) { return build(Select{}, {cond, a, b})[0]; }
inline Value cast(Value x, DType dtype) { return build(Cast{dtype}, {x})[0]; }

inline Value add(Value a, float b) { return add(a, scalar(a, b)); }
inline Value mul(Value a, float b) { return mul(a, scalar(a, b)); }
inline Value div(Value a, float b) { return div(a, scalar(a, b)); }
inline Value maximum(Value a, float b) { return maximum(a, scalar(a, b)); }
inline Value minimum(Value a, float b) { return minimum(a, scalar(a, b)); }
inline Value less(Value a, float b) { return less(a, scalar(a, b)); }
inline Value less(float a, Value b) { return less(scalar(b, a), b); }
inline Value equal(Value a, float b) { return equal(a, scalar(a, b)); }

}  // namespace weft
