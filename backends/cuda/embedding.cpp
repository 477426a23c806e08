#include "ops/embedding.h"

#include "backends/cuda/device/weights.h"
#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/steps.h"

namespace weft::cuda {

Kernel embedding() {
  return {.name = "embedding.f32",
          .covers = {Embedding::name},
          .arithmetic = Arithmetic::f32,
          .refuses = nullptr,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = [](const Call& call, Steps& steps) {
            const auto& op = call.match.op<Embedding>();
            const Tensor y = call.out[0];
            const Extent rows = extent_of(y.type, call.live);
            const auto add = [&](const Tensor& table, const Tensor& ids, int64_t offset, float scale, bool accumulate) {
              emit(steps, [=](cudaStream_t stream) {
                launch_gather_rows(table.type.dtype->id, table.data, table.dim(0), ids.as<int32_t>(), offset, scale,
                                   accumulate, y.as<float>(), rows, y.dim(1), stream);
              });
            };
            add(call.input(Embedding::kTable), call.input(Embedding::kIds), 0, op.scale, false);
            if (const Tensor positions = call.input(Embedding::kPositionTable)) {
              add(positions, call.input(Embedding::kPositions), op.position_offset, 1, true);
            }
          }};
}

}  // namespace weft::cuda
