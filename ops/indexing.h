// Primitives that look up rows and count.
#pragma once

#include "ops/build.h"
#include "ops/check.h"

namespace weft {

struct GatherRows {
  static constexpr std::string_view name = "gather_rows", doc = R"(
    y[i] = table[ids[i]]; a zero row where the id is out of range.
    table [V, D] of any type   ids [n] i32   ->   y [n, D] f32.)";
  enum Input { kTable, kIds };
  static constexpr std::array inputs = {one("table"), one("ids")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const {
    check_rank(in[kTable], 2, "table");
    check_rank(in[kIds], 1, "ids");
    check_i32(in[kIds], in[kIds].shape, "ids");
    return {f32_type({in[kIds].shape[0], in[kTable].shape[1]}, in[kIds].rows)};
  }

  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    const auto rows = static_cast<double>(live_rows(out[0], workload));
    return {.flops = rows * static_cast<double>(out[0].shape[1]),
            .weight_bytes = rows * static_cast<double>(in[kTable].row_bytes()),
            .activation_bytes = live_bytes(out[0], workload)};
  }
};

struct Iota {
  static constexpr std::string_view name = "iota", doc = "y [n] f32 = 0, 1, ..., n - 1.";
  static constexpr std::array<SlotSpec, 0> inputs{};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  int64_t n = 0;
  static constexpr auto fields = field_list(field("n", &Iota::n));

  std::vector<TensorType> infer(const Types&) const {
    require(n >= 0 && n <= int64_t{1} << 24, "f32 counts exactly from 0 to 2^24, given {}", n);
    return {f32_type({n})};
  }
};

inline Value gather_rows(Value table, Value ids) { return build(GatherRows{}, {table, ids})[0]; }
inline Value iota(Graph& graph, int64_t n) { return graph.add(Iota{n}, {})[0]; }

}  // namespace weft
