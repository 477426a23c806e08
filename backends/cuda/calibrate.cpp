#include "backends/cuda/calibrate.h"

#include <algorithm>
#include <vector>

#include "backends/cuda/blas.h"
#include "backends/cuda/check.h"
#include "backends/cuda/device/read.h"

namespace weft::cuda {
namespace {

constexpr int kRuns = 5;

/// The median time of a piece of work, seconds, after one run that is not counted.
template <typename F>
double median_seconds(cudaStream_t stream, F work) {
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin), "making an event");
  check(cudaEventCreate(&end), "making an event");
  work();
  std::vector<float> times;
  for (int i = 0; i < kRuns; ++i) {
    check(cudaEventRecord(begin, stream), "recording an event");
    work();
    check(cudaEventRecord(end, stream), "recording an event");
    check(cudaEventSynchronize(end), "measuring a device");
    check(cudaEventElapsedTime(&times.emplace_back(), begin, end), "measuring a device");
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::ranges::nth_element(times, times.begin() + kRuns / 2);
  return times[kRuns / 2] * 1e-3;
}

}  // namespace

void measure(DeviceInfo& info, cudaStream_t stream) {
  const size_t bytes = std::min(size_t{1} << 30, info.memory_bytes / 4);
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes) != cudaSuccess) {  // a full device keeps its data sheet's figures
    cudaGetLastError();
    return;
  }
  check(cudaMemsetAsync(memory, 1, bytes, stream), "clearing memory");
  info.bandwidth_gbps =
      static_cast<double>(bytes) / median_seconds(stream, [&] { launch_read(memory, bytes, stream); }) * 1e-9;
  const size_t piece = std::min(bytes, size_t{32} << 20);
  // Where products run on tensor cores, that is the rate plans are judged by.
  constexpr int64_t kSide = 4096;
  const size_t half = kSide * kSide * 2;
  if (why_no_blas().empty() && bytes >= 4 * half) {
    auto* at = static_cast<std::byte*>(memory);
    const auto product = half_product(kSide, kSide, kSide, kSide);
    const double seconds =
        median_seconds(stream, [&] { product(at, at + half, reinterpret_cast<float*>(at + 2 * half), stream); });
    info.gflops = 2.0 * kSide * kSide * kSide / seconds * 1e-9;
  }
  void* host = nullptr;
  if (cudaMallocHost(&host, piece) == cudaSuccess) {
    info.link_gbps =
        static_cast<double>(piece) /
        median_seconds(
            stream, [&] { check(cudaMemcpyAsync(memory, host, piece, cudaMemcpyHostToDevice, stream), "copying"); }) *
        1e-9;
    cudaFreeHost(host);
  }
  cudaFree(memory);
}

}  // namespace weft::cuda
