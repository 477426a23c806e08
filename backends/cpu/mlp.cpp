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

namespace {

/// Sizes of a match in the workspace: the intermediate, then the quantized rows of h and of it.
struct Sizes {
  int64_t tokens, d_model, d_ff;

  Sizes(const Match& match, size_t interm_slot, size_t out_slot)
      : tokens(match.node().out[0].shape[0]),
        d_model(match.type(interm_slot).shape.columns()),
        d_ff(match.type(out_slot).shape.columns()) {}
  size_t interm() const { return (static_cast<size_t>(tokens * d_ff) * sizeof(float) + 63) / 64 * 64; }
  size_t quantized_h(Products products) const { return Quantizer::workspace_bytes(products, tokens, d_model); }
  size_t quantized_interm(Products products) const { return Quantizer::workspace_bytes(products, tokens, d_ff); }
};

}  // namespace

Mlp::Mlp(const IsaKernels& isa, Activation activation, const Call& call, size_t interm_slot, size_t bias_slot,
         size_t out_slot, Products products, std::byte* workspace)
    : isa_(&isa),
      products_(products),
      activation_(activation),
      up_(call.inputs(interm_slot)),
      down_(call.inputs(out_slot)),
      bias_(call.inputs(bias_slot)),
      d_ff_(down_.k()),
      interm_(reinterpret_cast<float*>(workspace)),
      quantize_h_(isa, up_, products, call.out[0].dim(0),
                  workspace + Sizes(call.match, interm_slot, out_slot).interm()),
      quantize_interm_(isa, down_, products, call.out[0].dim(0),
                       workspace + Sizes(call.match, interm_slot, out_slot).interm() +
                           Sizes(call.match, interm_slot, out_slot).quantized_h(products)) {}

size_t Mlp::workspace_bytes(const Match& match, size_t interm_slot, size_t out_slot, Products products) {
  const Sizes sizes(match, interm_slot, out_slot);
  return sizes.interm() + sizes.quantized_h(products) + sizes.quantized_interm(products);
}

void Mlp::expand(int64_t first, int64_t last, int64_t n_tokens, const float* h, const Worker& worker) const {
  float* const gate = reinterpret_cast<float*>(worker.scratch + tiling(products_).scratch);
  const Activations a = quantize_h_(h, d_model(), n_tokens, worker.scratch + fixed_scratch(), worker.fresh);
  for_tiles(products_, first, last, d_ff_, n_tokens, [&](int64_t t, int64_t n, int64_t begin, int64_t end) {
    const Activations x = a.from(t, d_model());
    float* up = interm_ + t * d_ff_ + begin;
    const int64_t rows = end - begin;
    up_.multiply(*isa_, begin, end, x, n, up, d_ff_, worker.scratch);
    bias_.add(*isa_, begin, end, n, up, d_ff_);
    if (!is_gated(activation_)) {
      for (int64_t i = 0; i < n; ++i) isa_->activate(plain(activation_), up + i * d_ff_, rows);
      return;
    }
    up_.multiply(*isa_, d_ff_ + begin, d_ff_ + end, x, n, gate, rows, worker.scratch);
    bias_.add(*isa_, d_ff_ + begin, d_ff_ + end, n, gate, rows);
    for (int64_t i = 0; i < n; ++i) isa_->gate(plain(activation_), up + i * d_ff_, gate + i * rows, rows);
  });
}

}  // namespace weft::cpu
