#include "backends/cuda/steps.h"

#include <fmt/format.h>

#include <memory>

#include "backends/cuda/check.h"

namespace weft::cuda {
namespace {

/// What the launches do, as a graph. A launch that throws leaves the stream as it was.
cudaGraph_t capture(cudaStream_t stream, const std::vector<Launch>& launches) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "beginning a capture");
  cudaGraph_t graph = nullptr;
  try {
    for (const Launch& launch : launches) {
      launch(stream);
      check(cudaGetLastError(), "launching a kernel");
    }
  } catch (...) {
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(stream, &graph), "ending a capture");
  return graph;
}

}  // namespace

CudaSegment::CudaSegment(CudaSteps&& steps) : stream_(steps.stream_) {
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

void CudaSegment::launch() { check(cudaGraphLaunch(graph_, stream_), "launching a graph"); }
void CudaSegment::wait() { check(cudaStreamSynchronize(stream_), "running a plan"); }
std::string CudaSegment::describe() const { return fmt::format("one graph of {} kernels", n_nodes_); }

}  // namespace weft::cuda
