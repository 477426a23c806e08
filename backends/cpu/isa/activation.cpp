// Activations and gates over rows that are still in cache. Bound by arithmetic: 20 to 40 operations an element.
#include "backends/cpu/isa/kernels.h"
#include "backends/cpu/isa/math.h"

namespace weft::cpu::WEFT_ISA {
namespace {

struct GeluTanh {
  V operator()(V x) const {
    const V u = set(0.7978845608028654f) * fma(set(0.044715f) * x, x * x, x);  // sqrt(2 / pi) (x + 0.044715 x^3)
    return set(0.5f) * x * (set(1) + tanh_of(u));
  }
};
struct GeluErf {
  V operator()(V x) const { return set(0.5f) * x * (set(1) + erf_of(x * set(0.7071067811865476f))); }
};
struct Relu {
  V operator()(V x) const { return vmax(x, set(0)); }
};
struct Silu {
  V operator()(V x) const { return x / (set(1) + exp_of(-x)); }
};

template <typename F>
WEFT_INLINE void with(Act act, F f) {
  switch (act) {
    case Act::gelu_tanh:
      return f(GeluTanh{});
    case Act::gelu_erf:
      return f(GeluErf{});
    case Act::relu:
      return f(Relu{});
    case Act::silu:
      return f(Silu{});
  }
}

}  // namespace

void activate(Act act, float* y, int64_t n) {
  with(act, [=](auto a) { map(y, n, a); });
}

void gate(Act act, float* up, const float* gate, int64_t n) {
  with(act, [=](auto a) { map(up, gate, n, [a](V u, V g) { return u * a(g); }); });
}

void gate_clamped(float alpha, float limit, float* up, const float* gate, int64_t n) {
  map(up, gate, n, [=](V u, V g) {
    g = vmin(g, set(limit));
    u = vmax(vmin(u, set(limit)), set(-limit));
    return (u + set(1)) * (g / (set(1) + exp_of(set(-alpha) * g)));
  });
}

void add(float* y, const float* b, int64_t n) {
  map(y, b, n, [](V u, V v) { return u + v; });
}

void scale(float* y, float factor, int64_t n) {
  map(y, n, [=](V v) { return v * set(factor); });
}

}  // namespace weft::cpu::WEFT_ISA
