#include "backends/cpu/mlp.h"

namespace weft::cpu {

Act plain(Activation activation) {
  switch (activation) {
    case Activation::gelu_tanh:
    case Activation::gated_gelu_tanh:
      return Act::gelu_tanh;
    case Activation::gelu_erf:
    case Activation::gated_gelu_erf:
      return Act::gelu_erf;
    case Activation::relu:
    case Activation::gated_relu:
      return Act::relu;
    case Activation::silu:
    case Activation::gated_silu:
    case Activation::gated_swiglu_clamped:
      break;  // the last has an arithmetic of its own
  }
  return Act::silu;
}

Mlp::Mlp(const IsaKernels& isa, Activation activation, const Call& call, size_t interm_slot, size_t bias_slot,
         size_t out_slot)
    : isa_(&isa),
      activation_(activation),
      up_(call.inputs(interm_slot)),
      down_(call.inputs(out_slot)),
      bias_(call.inputs(bias_slot)),
      d_ff_(down_.k()) {}

void Mlp::expand(int64_t first, int64_t last, int64_t n_tokens, const float* h, float* interm,
                 std::byte* scratch) const {
  float* const gate = reinterpret_cast<float*>(scratch + kMatmulScratch);
  for_tiles(first, last, d_ff_, n_tokens, [&](int64_t t, int64_t n, int64_t begin, int64_t end) {
    const float* x = h + t * d_model();
    float* up = interm + t * d_ff_ + begin;
    const int64_t rows = end - begin;
    up_.multiply(*isa_, begin, end, x, d_model(), n, up, d_ff_, scratch);
    bias_.add(*isa_, begin, end, n, up, d_ff_);
    if (!is_gated(activation_)) {
      for (int64_t i = 0; i < n; ++i) isa_->activate(plain(activation_), up + i * d_ff_, rows);
      return;
    }
    up_.multiply(*isa_, d_ff_ + begin, d_ff_ + end, x, d_model(), n, gate, rows, scratch);
    bias_.add(*isa_, d_ff_ + begin, d_ff_ + end, n, gate, rows);
    for (int64_t i = 0; i < n; ++i) isa_->gate(plain(activation_), up + i * d_ff_, gate + i * rows, rows);
  });
}

size_t interm_bytes(const Match& match, size_t out_slot) {
  const int64_t tokens = match.node().out[0].shape[0], d_ff = match.type(out_slot).shape.columns();
  return static_cast<size_t>(tokens * d_ff) * sizeof(float);
}

}  // namespace weft::cpu
