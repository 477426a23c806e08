// The nonlinearities of MLPs.
#pragma once

#include "ops/elementwise.h"
#include "ops/enums.h"

namespace weft {

enum class Activation : uint8_t {
  gelu_tanh,             // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
  gelu_erf,              // x / 2 (1 + erf(x / sqrt(2)))
  relu,                  // max(x, 0)
  silu,                  // x / (1 + exp(-x))
  gated_gelu_tanh,       // gelu_tanh(gate) * up, and so on
  gated_gelu_erf,        //
  gated_relu,            //
  gated_silu,            //
  gated_swiglu_clamped,  // g = min(gate, limit), u = clamp(up, -limit, limit): (u + 1) g sigmoid(alpha g)
};

inline constexpr EnumNames<Activation, 9> kActivations = {{{Activation::gelu_tanh, "gelu_tanh"},
                                                           {Activation::gelu_erf, "gelu_erf"},
                                                           {Activation::relu, "relu"},
                                                           {Activation::silu, "silu"},
                                                           {Activation::gated_gelu_tanh, "gated_gelu_tanh"},
                                                           {Activation::gated_gelu_erf, "gated_gelu_erf"},
                                                           {Activation::gated_relu, "gated_relu"},
                                                           {Activation::gated_silu, "gated_silu"},
                                                           {Activation::gated_swiglu_clamped, "gated_swiglu_clamped"}}};
inline std::string_view to_string(Activation activation) { return enum_name(kActivations, activation); }
inline Activation parse_activation(std::string_view text) { return parse_enum(kActivations, "activation", text); }

constexpr bool is_gated(Activation activation) { return activation >= Activation::gated_gelu_tanh; }

struct Activate {
  static constexpr std::string_view name = "activate", doc = R"(
    y = act(x), or, gated, act(gate) * x: x is up.
    gated_swiglu_clamped: g = min(gate, limit), u = clamp(x, -limit, limit), y = (u + 1) g / (1 + exp(-alpha g));
    alpha and limit play no part otherwise.
    x [...] f32   gate? like x   ->   y like x.)";
  enum Input { kX, kGate };
  static constexpr std::array inputs = {one("x"), optional("gate")};
  static constexpr std::array outputs = {OutputSpec{"y"}};

  Activation activation = Activation::gelu_tanh;
  float alpha = 1.702f;
  float limit = 7;
  static constexpr auto fields = field_list(field("activation", &Activate::activation),
                                            field("alpha", &Activate::alpha), field("limit", &Activate::limit));

  std::vector<TensorType> infer(const Types& in) const {
    TensorType x = in[kX];
    check_dtype(x, quant::f32, "x");
    require(is_gated(activation) == in.has(kGate), "{} {} gate", to_string(activation),
            is_gated(activation) ? "needs a" : "takes no");
    check_f32(in[kGate], x.shape, "gate");
    x.rows = common_rows({x, in[kGate]});
    return {x};
  }

  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    Cost cost = streaming_cost(in, out, workload);
    cost.flops *= 10;
    return cost;
  }

  std::vector<Value> lower(const Values& in) const {
    const Value x = in[kX], gate = in[kGate];
    switch (activation) {
      case Activation::gelu_tanh:
        return {gelu_tanh(x)};
      case Activation::gelu_erf:
        return {gelu_erf(x)};
      case Activation::relu:
        return {maximum(x, 0.0f)};
      case Activation::silu:
        return {swish(x, 1)};
      case Activation::gated_gelu_tanh:
        return {mul(gelu_tanh(gate), x)};
      case Activation::gated_gelu_erf:
        return {mul(gelu_erf(gate), x)};
      case Activation::gated_relu:
        return {mul(maximum(gate, 0.0f), x)};
      case Activation::gated_silu:
        return {mul(swish(gate, 1), x)};
      case Activation::gated_swiglu_clamped:
        break;
    }
    const Value up = maximum(minimum(x, limit), -limit);
    return {mul(add(up, 1.0f), swish(minimum(gate, limit), alpha))};
  }

 private:
  static Value gelu_tanh(Value x) {
    const Value cubic = add(x, mul(mul(mul(x, x), x), 0.044715f));
    return mul(mul(x, 0.5f), add(tanh(mul(cubic, 0.7978845608f)), 1.0f));  // sqrt(2 / pi)
  }
  static Value gelu_erf(Value x) { return mul(mul(x, 0.5f), add(erf(mul(x, 0.7071067812f)), 1.0f)); }  // sqrt(1 / 2)
  static Value swish(Value x, float beta) { return div(x, add(exp(mul(x, -beta)), 1.0f)); }
};

inline Value activate(Activation activation, Value x, Value gate = {}, float alpha = 1.702f, float limit = 7) {
  return build(Activate{activation, alpha, limit}, {x, gate})[0];
}

extern template const Schema& schema_of<Activate>();  // made once, in ops/catalogue.cpp

}  // namespace weft
