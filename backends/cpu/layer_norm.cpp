// layer_norm and rms_norm: tasks are rows, one phase. Bound by memory, in practice by L2.
#include "ops/layer_norm.h"

#include "backends/cpu/kernels.h"
#include "backends/cpu/norm.h"
#include "backends/cpu/steps.h"
#include "ops/rms_norm.h"

namespace weft::cpu {
namespace {

void prepare(const Norm& norm, const Call& call, Steps& steps) {
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, 0);
  const Tensor x = call.input(0), y = call.out[0];
  const int64_t leading = std::max<int64_t>(x.dim(0), 1);
  const int64_t each = x.type.shape.rank() > 1 ? x.type.shape.rows() / leading : 1;  // rows of one leading index
  const bool vector = x.type.shape.rank() == 1;
  cpu.phase([=, live = call.live] { return vector ? 1 : live_count(y.type, live) * each; },
            [=](int64_t first, int64_t last, const Worker&) {
              for (int64_t r = first; r < last; ++r) norm(x.as<float>() + r * norm.n, y.as<float>() + r * norm.n);
            });
}

}  // namespace

Kernel layer_norm(const IsaKernels& isa) {
  return {.name = fmt::format("layer_norm.{}", isa.name),
          .covers = {LayerNorm::name},
          .arithmetic = Arithmetic::f32,
          .refuses = nullptr,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = [&isa](const Call& call, Steps& steps) {
            prepare({&isa, NormKind::layer, call.match.op<LayerNorm>().eps, call.input(LayerNorm::kGamma).as<float>(),
                     call.input(LayerNorm::kBeta).as<float>(), call.input(LayerNorm::kX).dim(-1)},
                    call, steps);
          }};
}

Kernel rms_norm(const IsaKernels& isa) {
  return {.name = fmt::format("rms_norm.{}", isa.name),
          .covers = {RmsNorm::name},
          .arithmetic = Arithmetic::f32,
          .refuses = nullptr,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = [&isa](const Call& call, Steps& steps) {
            prepare({&isa, NormKind::rms, call.match.op<RmsNorm>().eps, call.input(RmsNorm::kGamma).as<float>(),
                     nullptr, call.input(RmsNorm::kX).dim(-1)},
                    call, steps);
          }};
}

}  // namespace weft::cpu
