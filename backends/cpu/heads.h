// The first half of softmax_context: queries and keys normalized and rotated, keys and values appended to the cache.
#pragma once

#include <vector>

#include "backends/cpu/isa/isa.h"
#include "graph/backend.h"
#include "ops/softmax_context.h"

namespace weft::cpu {

class Heads {
 public:
  Heads(const IsaKernels& isa, const Call& call);

  int64_t group() const { return op_.n_head / op_.n_kv_head; }
  int64_t q_stride() const { return q_stride_; }
  /// Rotated queries of kv head h: [T, group, q_stride] of the workspace, T the plan's capacity.
  float* queries(int64_t h) const { return queries_ + h * capacity_ * group() * q_stride_; }

  /// Writes the queries of kv heads [first, last) of token t to the workspace, their keys and values to the cache.
  void append(int64_t t, int64_t first, int64_t last, std::byte* scratch) const;

  static size_t workspace_bytes(const Match& match);
  size_t scratch_bytes() const { return sizeof(float) * static_cast<size_t>(op_.rotary_dim + 2 * op_.d_head); }

 private:
  /// 1 / rms of a whole row of heads, where gamma says the norm is over the row.
  float row_scale(const float* row, const Tensor& gamma, int64_t heads) const;
  void finish_head(const float* from, int64_t head, const Tensor& gamma, float row_scale, const float* turn,
                   float* to) const;
  void rotate(const float* turn, float* head) const;
  void store(const Tensor& cache, int64_t slot, int64_t h, const float* row) const;

  const IsaKernels* isa_;
  SoftmaxContext op_;
  Tensor qkv_, k_cache_, v_cache_, positions_, slots_, q_gamma_, k_gamma_, factors_;
  float* queries_;
  int64_t capacity_, q_stride_;
  std::vector<float> frequencies_;  // radians per position of each pair
};

}  // namespace weft::cpu
