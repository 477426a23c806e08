// embedding: tasks are tokens, one phase: a row of each table decoded and added. Bound by memory latency, a row a
// token.
#include "ops/embedding.h"

#include <cstring>

#include "backends/cpu/kernels.h"
#include "backends/cpu/matmul.h"
#include "backends/cpu/steps.h"

namespace weft::cpu {
namespace {

/// Row `id` of a table, zeros if there is none.
void read_row(const IsaKernels& isa, const Tensor& table, int64_t id, float* out) {
  const int64_t d = table.dim(1);
  if (id < 0 || id >= table.dim(0)) {
    std::memset(out, 0, static_cast<size_t>(d) * sizeof(float));
    return;
  }
  RowBlock row = row_block(table);
  row.data += static_cast<size_t>(id) * row.row_bytes;
  isa.decode(row, out, d);
}

void prepare(const IsaKernels& isa, const Call& call, Steps& steps) {
  const auto& op = call.match.op<Embedding>();
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, 0);
  const Tensor ids = call.input(Embedding::kIds), table = call.input(Embedding::kTable), y = call.out[0];
  const Tensor positions = call.input(Embedding::kPositions), position_table = call.input(Embedding::kPositionTable);
  const int64_t d = y.dim(1);
  cpu.scratch(static_cast<size_t>(d) * sizeof(float));
  cpu.phase([type = y.type, live = call.live] { return live_count(type, live); },
            [=, &isa, scale = op.scale, offset = int64_t{op.position_offset}](int64_t first, int64_t last,
                                                                              const Worker& worker) {
              float* row = reinterpret_cast<float*>(worker.scratch);
              for (int64_t t = first; t < last; ++t) {
                float* out = y.as<float>() + t * d;
                read_row(isa, table, ids.as<int32_t>()[t], out);
                if (scale != 1) isa.scale(out, scale, d);
                if (!positions) continue;
                read_row(isa, position_table, positions.as<int32_t>()[t] + offset, row);
                isa.add(out, row, d);
              }
            });
}

}  // namespace

Kernel embedding(const IsaKernels& isa) {
  return {.name = fmt::format("embedding.{}", isa.name),
          .covers = {Embedding::name},
          .arithmetic = Arithmetic::f32,
          .refuses = nullptr,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = [&isa](const Call& call, Steps& steps) { prepare(isa, call, steps); }};
}

}  // namespace weft::cpu
