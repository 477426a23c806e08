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
  /// The slots are those of node 0 of the call's chain.
  Mlp(const IsaKernels& isa, Activation activation, const Call& call, size_t interm_slot, size_t bias_slot,
      size_t out_slot);

  int64_t d_model() const { return up_.k(); }
  int64_t d_ff() const { return d_ff_; }
  int64_t interm_units() const { return (d_ff_ + kRowUnit - 1) / kRowUnit; }
  int64_t out_units() const { return down_.units(); }
  int64_t d_out() const { return down_.rows(); }

  /// Units [first, last) of the intermediate: interm[t, n] = act(...). `scratch`: scratch_bytes(d_ff).
  void expand(int64_t first, int64_t last, int64_t n_tokens, const float* h, float* interm, std::byte* scratch) const;
  /// Units [first, last) of the output; then finish(token, n_tokens, first_row, last_row) for each tile in cache.
  template <typename Finish>
  void contract(int64_t first, int64_t last, int64_t n_tokens, const float* interm, float* out, std::byte* scratch,
                Finish finish) const {
    for_tiles(first, last, d_out(), n_tokens, [&](int64_t t, int64_t n, int64_t begin, int64_t end) {
      down_.multiply(*isa_, begin, end, interm + t * d_ff_, d_ff_, n, out + t * d_out() + begin, d_out(), scratch);
      finish(t, n, begin, end);
    });
  }

  /// Of the matmul, and the gate's rows of one tile.
  static size_t scratch_bytes(int64_t d_ff) {
    return kMatmulScratch + sizeof(float) * static_cast<size_t>(std::max(kTokenTile * kTileRows, d_ff));
  }

 private:
  const IsaKernels* isa_;
  Activation activation_;
  Weights up_, down_;  // gated: the rows of up_ are up, then gate
  Bias bias_;
  int64_t d_ff_;
};

/// Bytes of the intermediate for every token of a plan.
size_t interm_bytes(const Match& match, size_t out_slot);

}  // namespace weft::cpu
