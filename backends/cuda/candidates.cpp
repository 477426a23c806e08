#include "ops/candidates.h"

#include "backends/cuda/device/attention.h"
#include "backends/cuda/device/candidates.h"
#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/steps.h"

namespace weft::cuda {
namespace {

std::optional<std::string> refuses(const Match& match, const DeviceInfo&) {
  const int64_t k = match.op<Candidates>().k, rows = match.type(Candidates::kLogits).shape[0];
  if (k > kMostCandidates) return fmt::format("it finds {} of a row, not {}", kMostCandidates, k);
  if (rows > kArrivals - 1) return fmt::format("it has {} rows", rows);  // and no more blocks in y
  return std::nullopt;
}

size_t workspace(const Match& match) {
  const Shape& logits = match.type(Candidates::kLogits).shape;
  return candidate_parts_bytes(logits[0], logits[1], match.op<Candidates>().k);
}

void prepare(const Call& call, Steps& steps) {
  const Tensor logits = call.input(Candidates::kLogits);
  const CandidateArgs args{.logits = logits.as<float>(),
                           .rows = extent_of(logits.type, call.live),
                           .n = logits.dim(1),
                           .k = static_cast<int>(call.match.op<Candidates>().k),
                           .parts = reinterpret_cast<uint64_t*>(call.workspace),
                           .arrivals = static_cast<CudaSteps&>(steps).scratch().arrivals,
                           .values = call.out[0].as<float>(),
                           .tokens = call.out[1].as<int32_t>()};
  if (args.rows.capacity > 0) emit(steps, [=](cudaStream_t stream) { launch_candidates(args, stream); });
}

}  // namespace

Kernel candidates() {
  return {.name = "candidates.f32",
          .covers = {Candidates::name},
          .arithmetic = Arithmetic::f32,
          .refuses = refuses,
          .layout = nullptr,
          .workspace = workspace,
          .prepare = prepare};
}

}  // namespace weft::cuda
