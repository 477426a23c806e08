// Where cuda kernels put their work: launches on a stream, captured once as a CUDA graph and replayed. Nothing in it
// allocates or waits, and its parameters never change: what differs from step to step is read on the device.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

#include "graph/backend.h"

namespace weft::cuda {

class HalfCopies;

/// Memory of a stream that its kernels share, each done with it when it ends.
struct Scratch {
  unsigned* arrivals = nullptr;  // [kArrivals] zeros, that kernels count with and leave as zeros
  float* partial = nullptr;      // staged_scratch() bytes: sums of parts of products
};

using Launch = std::function<void(cudaStream_t)>;

class CudaSteps : public Steps {
 public:
  CudaSteps(cudaStream_t stream, HalfCopies& copies, const Scratch& scratch)
      : stream_(stream), copies_(copies), scratch_(scratch) {}
  void add(Launch launch) { launches_.push_back(std::move(launch)); }

  cudaStream_t stream() const { return stream_; }
  HalfCopies& copies() const { return copies_; }
  const Scratch& scratch() const { return scratch_; }

 private:
  friend class CudaSegment;
  cudaStream_t stream_;
  HalfCopies& copies_;
  const Scratch& scratch_;
  std::vector<Launch> launches_;
};

inline void emit(Steps& steps, Launch launch) { static_cast<CudaSteps&>(steps).add(std::move(launch)); }

class CudaSegment : public Segment {
 public:
  /// Throws Error if a launch is refused.
  explicit CudaSegment(CudaSteps&& steps);
  ~CudaSegment() override;

  void launch() override;
  void wait() override;
  double timed_launch() override;
  std::string describe() const override;

 private:
  cudaStream_t stream_;
  cudaGraphExec_t graph_ = nullptr;
  size_t n_nodes_ = 0;
  std::string name_;
};

}  // namespace weft::cuda
