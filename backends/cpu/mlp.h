// The two projections of an MLP, shared by mlp_gemm and gelu_gemm: h -> act(h W1^T + b1) -> W2.
#pragma once

#include "backends/cpu/matmul.h"
#include "backends/cpu/steps.h"
#include "ops/activation.h"

namespace weft::cpu {

/// What the activation applies, gated or not.
Act plain(Activation activation);

class Mlp {
 public:
  /// The slots are those of node 0 of the call's chain. `workspace`: workspace_bytes() of the call's.
  Mlp(const IsaKernels& isa, Activation activation, const Call& call, size_t interm_slot, size_t bias_slot,
      size_t out_slot, Products products, std::byte* workspace);

  /// The intermediate for every token of a plan, and what is quantized once for all threads.
  static size_t workspace_bytes(const Match& match, size_t interm_slot, size_t out_slot, Products products);

  int64_t d_model() const { return up_.k(); }
  int64_t d_ff() const { return d_ff_; }
  int64_t interm_units() const { return (d_ff_ + kRowUnit - 1) / kRowUnit; }
  int64_t out_units() const { return down_.units(); }
  int64_t d_out() const { return down_.rows(); }

  /// The narrow copy of h, where it is made for all.
  const Quantizer& quantizer() const { return quantize_h_; }
  /// Units [first, last) of the intermediate: act(h W1^T + b1). `worker`: of scratch_bytes().
  void expand(int64_t first, int64_t last, int64_t n_tokens, const float* h, const Worker& worker) const;
  /// The narrow copy of the intermediate, if it is made for all: a phase between the two.
  bool quantizes_interm() const { return quantize_interm_.shared(); }
  void quantize_interm(int64_t first, int64_t last) const { quantize_interm_.rows(interm_, d_ff_, first, last); }
  /// Units [first, last) of the output; then finish(token, n_tokens, first_row, last_row) for each tile in cache.
  template <typename Finish>
  void contract(int64_t first, int64_t last, int64_t n_tokens, float* out, const Worker& worker, Finish finish) const {
    const Activations a = quantize_interm_(interm_, d_ff_, n_tokens, worker.scratch + fixed_scratch(), worker.fresh);
    for_tiles(products_, first, last, d_out(), n_tokens, [&](int64_t t, int64_t n, int64_t begin, int64_t end) {
      down_.multiply(*isa_, begin, end, a.from(t, d_ff_), n, out + t * d_out() + begin, d_out(), worker.scratch);
      finish(t, n, begin, end);
    });
  }

  size_t scratch_bytes() const {
    return fixed_scratch() + std::max(quantize_h_.scratch_bytes(), quantize_interm_.scratch_bytes());
  }

 private:
  /// Of the matmul, and the gate's rows of one tile.
  size_t fixed_scratch() const {
    const Tiling tile = tiling(products_);
    return tile.scratch +
           sizeof(float) * static_cast<size_t>(std::max(tile.tokens * tile.rows, (d_ff_ + 15) / 16 * 16));
  }

  const IsaKernels* isa_;
  Products products_;
  Activation activation_;
  Weights up_, down_;  // gated: the rows of up_ are up, then gate
  Bias bias_;
  int64_t d_ff_;
  float* interm_;  // [T, d_ff]
  Quantizer quantize_h_, quantize_interm_;
};

}  // namespace weft::cpu
