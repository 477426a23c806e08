#include "ops/embedding.h"

#include "backends/cuda/device/gather.h"
#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/steps.h"

namespace weft::cuda {
namespace {

std::optional<std::string> refuses(const Match& match, const DeviceInfo&) {
  const TensorType positions = match.type(Embedding::kPositionTable);
  if (!positions || adds_type(positions.dtype->id)) return std::nullopt;
  return fmt::format("it adds no rows of {}", positions.dtype->name);
}

void prepare(const Call& call, Steps& steps) {
  const auto& op = call.match.op<Embedding>();
  const Tensor y = call.out[0];
  GatherArgs args{.table = gather_table(call.input(Embedding::kTable), call.input(Embedding::kIds)),
                  .scale = op.scale,
                  .y = y.as<float>(),
                  .rows = extent_of(y.type, call.live),
                  .columns = y.dim(1)};
  if (const Tensor positions = call.input(Embedding::kPositionTable)) {
    args.more = gather_table(positions, call.input(Embedding::kPositions), op.position_offset);
  }
  emit(steps, [args](cudaStream_t stream) { launch_gather(args, stream); });
}

}  // namespace

Kernel embedding() {
  return {.name = "embedding.f32",
          .covers = {Embedding::name},
          .arithmetic = Arithmetic::f32,
          .refuses = refuses,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = prepare};
}

}  // namespace weft::cuda
