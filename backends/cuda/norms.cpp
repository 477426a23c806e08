// layer_norm and rms_norm by themselves.
#include "backends/cuda/device/activations.h"
#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/steps.h"
#include "ops/layer_norm.h"
#include "ops/rms_norm.h"

namespace weft::cuda {
namespace {

constexpr int64_t kLongestRow = 56 * 1024;  // a row is in shared memory

template <typename Op>
Kernel kernel_of(Norm norm) {
  return {.name = fmt::format("{}.f32", Op::name),
          .covers = {Op::name},
          .arithmetic = Arithmetic::f32,
          .refuses = [](const Match& match, const DeviceInfo&) -> std::optional<std::string> {
            const Shape& shape = match.type(Op::kX).shape;
            if (shape.columns() > kLongestRow) return fmt::format("rows are longer than {}", kLongestRow);
            return std::nullopt;
          },
          .layout = nullptr,
          .workspace = nullptr,
          .prepare =
              [norm](const Call& call, Steps& steps) {
                const Tensor x = call.input(Op::kX), y = call.out[0];
                const int64_t d = x.type.shape.columns(), per_row = x.type.elements() / std::max<int64_t>(1, d);
                Extent rows = extent_of(x.type, call.live);
                if (per_row != rows.capacity) rows = {nullptr, per_row};
                NormArgs args{.x = x.as<float>(),
                              .norm = norm,
                              .gamma = call.input(Op::kGamma).template as<float>(),
                              .eps = call.match.op<Op>().eps,
                              .tokens = rows,
                              .d = d,
                              .out = y.as<float>()};
                if constexpr (std::is_same_v<Op, LayerNorm>) args.beta = call.input(Op::kBeta).template as<float>();
                emit(steps, [args](cudaStream_t stream) { launch_norm(args, stream); });
              }};
}

}  // namespace

Kernel layer_norm() { return kernel_of<LayerNorm>(Norm::layer); }
Kernel rms_norm() { return kernel_of<RmsNorm>(Norm::rms); }

}  // namespace weft::cuda
