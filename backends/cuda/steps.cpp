#include "backends/cuda/steps.h"

#include <fmt/format.h>

#include <memory>

#if __has_include(<nvtx3/nvToolsExt.h>)  // a part of the toolkit that may be absent
#include <nvtx3/nvToolsExt.h>
#endif

#include "backends/cuda/check.h"

namespace weft::cuda {
namespace {

/// What the launches do, as a graph; one that allocates or waits makes the capture fail. A launch that throws leaves
/// the stream as it was.
cudaGraph_t capture(cudaStream_t stream, const std::vector<Launch>& launches) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "beginning a capture");
  cudaGraph_t graph = nullptr;
  try {
    for (const Launch& launch : launches) {
      launch(stream);
      check(cudaGetLastError(), "launching a kernel");
    }
  } catch (...) {
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // a capture that was broken off, or the next call reports it again
    throw;
  }
  check(cudaStreamEndCapture(stream, &graph), "ending a capture");
  return graph;
}

struct EventPair {
  EventPair() {
    check(cudaEventCreate(&begin), "making an event");
    check(cudaEventCreate(&end), "making an event");
  }
  ~EventPair() {
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
  }
  EventPair(const EventPair&) = delete;
  EventPair& operator=(const EventPair&) = delete;
  cudaEvent_t begin = nullptr, end = nullptr;
};

/// What a profiler shows around a launch.
struct Range {
#if __has_include(<nvtx3/nvToolsExt.h>)
  explicit Range(const std::string& name) { nvtxRangePushA(name.c_str()); }
  ~Range() { nvtxRangePop(); }
#else
  explicit Range(const std::string&) {}
#endif
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
};

}  // namespace

CudaSegment::CudaSegment(CudaSteps&& steps) : stream_(steps.stream_), name_(std::move(steps.name)) {
  const std::unique_ptr<CUgraph_st, cudaError_t (*)(cudaGraph_t)> graph(capture(stream_, steps.launches_),
                                                                        cudaGraphDestroy);
  check(cudaGraphGetNodes(graph.get(), nullptr, &n_nodes_), "counting a graph's nodes");
  check(cudaGraphInstantiate(&graph_, graph.get(), 0), "instantiating a graph");
  check(cudaGraphUpload(graph_, stream_), "uploading a graph");
}

CudaSegment::~CudaSegment() {
  cudaStreamSynchronize(stream_);
  cudaGraphExecDestroy(graph_);
}

void CudaSegment::launch() {
  const Range range(name_);
  check(cudaGraphLaunch(graph_, stream_), "launching a graph");
}

double CudaSegment::timed_launch() {
  const EventPair events;
  check(cudaEventRecord(events.begin, stream_), "recording an event");
  launch();
  check(cudaEventRecord(events.end, stream_), "recording an event");
  check(cudaEventSynchronize(events.end), "running a plan");
  float ms = 0;
  check(cudaEventElapsedTime(&ms, events.begin, events.end), "timing a plan");
  return ms * 1e3;
}

void CudaSegment::wait() { check(cudaStreamSynchronize(stream_), "running a plan"); }
std::string CudaSegment::describe() const { return fmt::format("one graph of {} kernels", n_nodes_); }

}  // namespace weft::cuda
