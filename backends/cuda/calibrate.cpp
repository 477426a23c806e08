#include "backends/cuda/calibrate.h"

#include <algorithm>
#include <span>
#include <vector>

#include "backends/cuda/blas.h"
#include "backends/cuda/check.h"
#include "backends/cuda/device/gemv.h"
#include "backends/cuda/device/read.h"
#include "ops/quant/q4_k.h"

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

/// Of one of a chain of products of a token's activations by q4_K weights, as a step of decoding has them; the weights
/// are wherever in `memory`, whatever they are.
double product_seconds(CudaSteps steps, std::span<std::byte> memory, int64_t rows, int64_t k) {
  constexpr size_t kLongest = 64, kVectors = size_t{1} << 20;  // launches; bytes of activations and result, each
  const size_t each = TensorType{quant::q4_K, {rows, k}}.bytes();
  const auto n = std::min(kLongest, (memory.size() - 2 * kVectors) / each);
  for (size_t i = 0; i < n; ++i) {
    GemvArgs args{.prologue = {.x = reinterpret_cast<const float*>(memory.data()), .tokens = {nullptr, 1}, .d = k},
                  .tokens = {nullptr, 1},
                  .y = reinterpret_cast<float*>(memory.data() + kVectors),
                  .y_stride = rows,
                  .partial = steps.scratch().partial,
                  .arrivals = steps.scratch().arrivals};
    args.weights = {.block = {memory.data() + 2 * kVectors + i * each},
                    .begin = {0, rows},
                    .n_blocks = 1,
                    .k = k,
                    .type = quant::q4_K.id};
    emit(steps, [args](cudaStream_t stream) { launch_gemv(args, stream); });
  }
  const cudaStream_t stream = steps.stream();
  CudaSegment chain(std::move(steps));
  return median_seconds(stream, [&] { chain.launch(); }) / static_cast<double>(n);
}

}  // namespace

void measure(DeviceInfo& info, const CudaSteps& steps) {
  const cudaStream_t stream = steps.stream();
  const size_t bytes = std::min(size_t{1} << 30, info.memory_bytes / 4);
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes) != cudaSuccess) {  // a full device keeps its data sheet's figures
    cudaGetLastError();
    return;
  }
  check(cudaMemsetAsync(memory, 1, bytes, stream), "clearing memory");
  info.bandwidth_gbps =
      static_cast<double>(bytes) / median_seconds(stream, [&] { launch_read(memory, bytes, stream); }) * 1e-9;
  // What a launch of decoding costs beside its bytes is what a small product takes; and a large one, by the arithmetic.
  constexpr int64_t kSmall = 1024, kRows = 14336, kColumns = 4096;
  if (bytes >= size_t{256} << 20) {
    const std::span all(static_cast<std::byte*>(memory), bytes);
    const double small = product_seconds(steps, all, kSmall, kSmall);
    const double large = product_seconds(steps, all, kRows, kColumns);
    info.launch_us = small * 1e6;
    info.int8_gops = 2.0 * kRows * kColumns / std::max(large - small, small) * 1e-9;
  }
  const size_t piece = std::min(bytes, size_t{32} << 20);
  constexpr int64_t kSide = 4096;
  const size_t half = kSide * kSide * 2;
  if (why_no_blas().empty() && bytes >= 4 * half) {
    auto* at = static_cast<std::byte*>(memory);
    const auto product = half_product({.m = kSide,
                                       .n = kSide,
                                       .k = kSide,
                                       .ldc = kSide,
                                       .a = at,
                                       .b = at + half,
                                       .c = reinterpret_cast<float*>(at + 2 * half)});
    const double seconds = median_seconds(stream, [&] { product(stream); });
    info.half_gflops = 2.0 * kSide * kSide * kSide / seconds * 1e-9;
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
