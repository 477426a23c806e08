// Primitives that multiply matrices. Weights are [out, in] and stay in their own type.
#pragma once

#include "ops/blocks.h"
#include "ops/build.h"

namespace weft {

struct Matmul {
  static constexpr std::string_view name = "matmul", doc = R"(
    y = x W^T.  x [..., K] f32   weight: blocks [N_i, K] of any type   ->   y [..., N], N = sum N_i.)";
  enum Input { kX, kWeight };
  static constexpr std::array inputs = {one("x"), list("weight")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const {
    TensorType type = in[kX];
    check_dtype(type, quant::f32, "x");
    require(type.shape.rank() >= 2, "x must have at least 2 dimensions, given {}", to_string(type));
    type.shape.set(-1, check_blocks(in.list(kWeight), type.shape[-1], "weight", "x"));
    return {type};
  }

  Cost cost(const Types& in, const std::vector<TensorType>&, const Workload& workload) const {
    return matmul_cost(in[kX], in.list(kWeight), workload);
  }
};

struct BatchMatmul {
  static constexpr std::string_view name = "batch_matmul", doc = R"(
    y[i] = a[i] b[i]^T (transpose_b, the default) or a[i] b[i].
    a [B, M, K] f32   b [B, N, K] f32, or [B, K, N] without transpose_b   ->   y [B, M, N].)";
  enum Input { kA, kB };
  static constexpr std::array inputs = {one("a"), one("b")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  bool transpose_b = true;
  static constexpr auto fields = field_list(field("transpose_b", &BatchMatmul::transpose_b));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType a = in[kA], b = in[kB];
    for (const TensorType& type : {a, b}) {
      check_dtype(type, quant::f32, "an input");
      check_rank(type, 3, "an input");
    }
    require(a.shape[0] == b.shape[0], "a has {} matrices, b has {}", a.shape[0], b.shape[0]);
    const int64_t k = b.shape[transpose_b ? 2 : 1];
    require(a.shape[2] == k, "a has {} columns, b has {}", a.shape[2], k);
    return {f32_type({a.shape[0], a.shape[1], b.shape[transpose_b ? 1 : 2]}, common_rows({a, b}))};
  }

  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    Cost cost = streaming_cost(in, out, workload);
    cost.flops = 2 * live_bytes(out[0], workload) / sizeof(float) * static_cast<double>(in[kA].shape[2]);
    return cost;
  }
};

struct IndexedMatmul {
  static constexpr std::string_view name = "indexed_matmul", doc = R"(
    y[t, j] = W[ids[t, j]] x[t] (or x[t, j]): rows through the matrices of their experts.
    x [T, K] or [T, k, K] f32   ids [T, k] i32   weight [E, N, K] of any type   ->   y [T, k, N]. An id out of range
    gives a zero row.)";
  enum Input { kX, kIds, kWeight };
  static constexpr std::array inputs = {one("x"), one("ids"), one("weight")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType x = in[kX], ids = in[kIds], weight = in[kWeight];
    check_dtype(x, quant::f32, "x");
    check_rank(ids, 2, "ids");
    check_i32(ids, ids.shape, "ids");
    check_rank(weight, 3, "weight");
    const int64_t t = ids.shape[0], k = ids.shape[1], columns = weight.shape[2];
    require(x.shape == Shape{t, columns} || x.shape == Shape{t, k, columns},
            "x must be [{}, {}] or [{}, {}, {}], given {}", t, columns, t, k, columns, to_string(x));
    return {f32_type({t, k, weight.shape[1]}, common_rows({x, ids}))};
  }

  /// A matrix is read once if any row picked it; picks are taken as evenly spread.
  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    const TensorType weight = in[kWeight];
    const auto experts = static_cast<double>(weight.shape[0]);
    const auto picks = static_cast<double>(live_rows(out[0], workload) * out[0].shape[1]);
    Cost cost;
    cost.flops = 2 * picks * static_cast<double>(weight.shape.elements()) / experts;
    cost.weight_bytes = static_cast<double>(weight.bytes()) / experts * std::min(picks, experts);
    cost.activation_bytes = live_bytes(in[kX], workload) + live_bytes(out[0], workload);
    return cost;
  }
};

inline Value matmul(Value x, std::vector<Value> weight) { return build(Matmul{}, {x, std::move(weight)})[0]; }
inline Value batch_matmul(Value a, Value b, bool transpose_b = true) {
  return build(BatchMatmul{transpose_b}, {a, b})[0];
}
inline Value indexed_matmul(Value x, Value ids, Value weight) { return build(IndexedMatmul{}, {x, ids, weight})[0]; }

}  // namespace weft
