#include "ops/residual_add.h"

#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/residual.h"
#include "backends/cuda/steps.h"

namespace weft::cuda {

Kernel residual_add() {
  return {.name = "residual_add.f32",
          .covers = {ResidualAdd::name},
          .arithmetic = Arithmetic::f32,
          .refuses = nullptr,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = [](const Call& call, Steps& steps) {
            const Tensor hidden = call.input(ResidualAdd::kHidden), y = call.out[0];
            emit(steps, [=, r = residual_of(call, 0), tokens = extent_of(y.type, call.live)](cudaStream_t stream) {
              launch_residual(hidden.as<float>(), nullptr, r, y.as<float>(), tokens, y.dim(1), stream);
            });
          }};
}

}  // namespace weft::cuda
