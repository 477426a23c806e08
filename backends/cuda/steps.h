// Where cuda kernels put their work: launches on a stream, captured once as a CUDA graph and replayed. Nothing in it
// allocates or waits, and its parameters never change: what differs from step to step is read on the device.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

#include "graph/backend.h"

namespace weft::cuda {

class HalfCopies;

using Launch = std::function<void(cudaStream_t)>;

class CudaSteps : public Steps {
 public:
  CudaSteps(cudaStream_t stream, HalfCopies& copies, unsigned* arrivals)
      : stream_(stream), copies_(copies), arrivals_(arrivals) {}
  void add(Launch launch) { launches_.push_back(std::move(launch)); }

  cudaStream_t stream() const { return stream_; }
  HalfCopies& copies() const { return copies_; }
  /// Zeros of the stream, that kernels count with and leave as zeros.
  unsigned* arrivals() const { return arrivals_; }

 private:
  friend class CudaSegment;
  cudaStream_t stream_;
  HalfCopies& copies_;
  unsigned* arrivals_;
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
  std::string describe() const override;

 private:
  cudaStream_t stream_;
  cudaGraphExec_t graph_ = nullptr;
  size_t n_nodes_ = 0;
};

}  // namespace weft::cuda
