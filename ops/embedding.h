// Token and position embedding.
#pragma once

#include "ops/elementwise.h"
#include "ops/indexing.h"

namespace weft {

struct Embedding {
  static constexpr std::string_view name = "embedding", doc = R"(
    y = scale * table[ids] + position_table[positions + position_offset].
    ids [T] i32   table [V, D] of any type   positions? [T] i32 and position_table? [N, D] of any type: both or neither
    ->   y [T, D] f32. An id or position out of range gives a zero row.)";
  enum Input { kIds, kTable, kPositions, kPositionTable };
  static constexpr std::array inputs = {one("ids"), one("table"), optional("positions"), optional("position_table")};
  static constexpr std::array outputs = {OutputSpec{"y"}};

  int position_offset = 0;
  float scale = 1;
  static constexpr auto fields =
      field_list(field("position_offset", &Embedding::position_offset), field("scale", &Embedding::scale));

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType ids = in[kIds], table = in[kTable];
    check_rank(ids, 1, "ids");
    check_i32(ids, ids.shape, "ids");
    check_rank(table, 2, "table");
    require(in.has(kPositions) == in.has(kPositionTable), "positions and position_table come together");
    check_i32(in[kPositions], ids.shape, "positions");
    if (const TensorType positions = in[kPositionTable]) {
      check_rank(positions, 2, "position_table");
      require(positions.shape[1] == table.shape[1], "position_table has {} columns, table has {}", positions.shape[1],
              table.shape[1]);
    }
    return {f32_type({ids.shape[0], table.shape[1]}, common_rows({ids, in[kPositions]}))};
  }

  /// One row of each table a token.
  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    const auto rows = static_cast<double>(live_rows(out[0], workload));
    Cost cost;
    cost.flops = rows * static_cast<double>(out[0].shape[1]) * 2;
    for (const Input table : {kTable, kPositionTable}) {
      if (in.has(table)) cost.weight_bytes += rows * static_cast<double>(in[table].row_bytes());
    }
    cost.activation_bytes = live_bytes(out[0], workload);
    return cost;
  }

  std::vector<Value> lower(const Values& in) const {
    Value y = gather_rows(in[kTable], in[kIds]);
    if (scale != 1) y = mul(y, scale);
    if (!in.has(kPositions)) return {y};
    Value positions = in[kPositions];
    if (position_offset != 0) {
      const auto offset = static_cast<float>(position_offset);
      positions = cast(add(cast(positions, quant::f32), offset), quant::i32);
    }
    return {add(y, gather_rows(in[kPositionTable], positions))};
  }
};

extern template const Schema& schema_of<Embedding>();  // made once, in ops/catalogue.cpp

}  // namespace weft
