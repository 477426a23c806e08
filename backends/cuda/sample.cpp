#include "ops/sample.h"

#include "backends/cuda/device/sample.h"
#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/steps.h"

namespace weft::cuda {
namespace {

std::optional<std::string> refuses(const Match& match, const DeviceInfo&) {
  const int64_t k = match.type(Sample::kValues).shape[1], recent = match.type(Sample::kRecent).shape[1];
  if (k > kMostSampled) return fmt::format("it takes {} candidates, not {}", kMostSampled, k);
  if (recent > kMostSampled) return fmt::format("it takes {} recent tokens, not {}", kMostSampled, recent);
  return std::nullopt;
}

void prepare(const Call& call, Steps& steps) {
  const Tensor values = call.input(Sample::kValues), recent = call.input(Sample::kRecent);
  const SampleArgs args{.values = values.as<float>(),
                        .tokens = call.input(Sample::kTokens).as<int32_t>(),
                        .fed = call.input(Sample::kFed).as<int32_t>(),
                        .recent = recent.as<int32_t>(),
                        .options = call.input(Sample::kOptions).as<float>(),
                        .draws = call.input(Sample::kDraws).as<int32_t>(),
                        .rows = extent_of(values.type, call.live),
                        .k = static_cast<int>(values.dim(1)),
                        .n_recent = static_cast<int>(recent.dim(1)),
                        .chosen = call.out[0].as<int32_t>()};
  if (args.rows.capacity > 0) emit(steps, [=](cudaStream_t stream) { launch_sample(args, stream); });
}

}  // namespace

Kernel sample() {
  return {.name = "sample.f64",
          .covers = {Sample::name},
          .arithmetic = Arithmetic::f32,
          .refuses = refuses,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = prepare};
}

}  // namespace weft::cuda
