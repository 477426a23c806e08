// The devices, their memory, and the copies between them and the host. Everything of a device is in order on one
// stream, so that a write is seen by the launch after it and nothing waits but read() and Segment::wait().
#include <cuda_runtime_api.h>

#include <cstring>
#include <deque>

#include "backends/cuda/blas.h"
#include "backends/cuda/calibrate.h"
#include "backends/cuda/check.h"
#include "backends/cuda/cuda.h"
#include "backends/cuda/device/attention.h"
#include "backends/cuda/device/read.h"
#include "backends/cuda/device/staged.h"
#include "backends/cuda/device/turn.h"
#include "backends/cuda/half_copies.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/pinned.h"
#include "backends/cuda/steps.h"
#include "backends/cuda/trace.h"
#include "backends/cuda/upload.h"
#include "backends/mapped.h"
#include "graph/rate_cache.h"

namespace weft::cuda {
namespace {

constexpr size_t kMargin = size_t{512} << 20;  // left free on the device: graphs, cuBLASLt, other programs
constexpr size_t kStaging = size_t{8} << 20;   // pinned, a device: inputs of steps pass through it
constexpr size_t kPiece = size_t{2} << 20;     // of a copy

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "asking for an attribute");
  return value;
}

class CudaDevice {
 public:
  /// `index`: among CUDA's devices. Selected by the caller.
  CudaDevice(int index, size_t memory_limit) : index_(index) {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, index), "asking for a device's properties");
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "asking for free memory");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
    for (cudaEvent_t& mark : marks_) {
      check(cudaEventCreateWithFlags(&mark, cudaEventDisableTiming), "making an event");
    }
    check(cudaMallocHost(reinterpret_cast<void**>(&staging_), kStaging), "pinning memory");
    constexpr size_t kCounters = kArrivals * sizeof(unsigned);
    check(cudaMalloc(reinterpret_cast<void**>(&scratch_.arrivals), kCounters), "allocating memory");
    check(cudaMemsetAsync(scratch_.arrivals, 0, kCounters, stream_), "clearing memory");
    check(cudaMalloc(reinterpret_cast<void**>(&scratch_.partial), staged_scratch()), "allocating memory");
    const int sms = properties.multiProcessorCount;
    int driver = 0;
    check(cudaDriverGetVersion(&driver), "asking for the driver's version");
    info = {.name = fmt::format("cuda:{}", index),
            .description =
                fmt::format("{}, {} SMs, {} MiB, compute capability {}.{}, driver for CUDA {}.{}", properties.name, sms,
                            total >> 20, properties.major, properties.minor, driver / 1000, driver % 1000 / 10),
            // What the data sheet says, until it is measured: two transfers a clock.
            .bandwidth_gbps = 2e-6 * attribute(cudaDevAttrMemoryClockRate, index) * properties.memoryBusWidth / 8,
            .gflops = 1e-6 * attribute(cudaDevAttrClockRate, index) * sms * 128 * 2,
            .launch_us = 3,
            .memory_bytes = std::min(free - std::min(free, kMargin), memory_limit),
            .alignment = 256,
            .host_memory = false,
            .link_gbps = 20,
            .link_latency_us = 10};
  }
  ~CudaDevice() {
    enter();
    cudaFreeHost(staging_);
    cudaFree(scratch_.arrivals);
    cudaFree(scratch_.partial);
    for (cudaEvent_t mark : marks_) cudaEventDestroy(mark);
    cudaStreamDestroy(stream_);
  }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  void select() const { check(cudaSetDevice(index_), "choosing a device"); }
  /// The same where nothing can be done about a failure.
  void enter() const noexcept { cudaSetDevice(index_); }
  cudaStream_t stream() const { return stream_; }
  const Scratch& scratch() const { return scratch_; }
  void wait() const { check(cudaStreamSynchronize(stream_), "waiting for a device"); }

  void write(std::byte* to, const void* from, size_t bytes) {
    const auto* source = static_cast<const std::byte*>(from);
    if (bytes >= Upload::kWorthIt) return upload_.write(index_, stream_, to, source, bytes);
    while (bytes > 0) {
      const size_t n = std::min(bytes, kPiece);
      std::byte* piece = stage(n);
      std::memcpy(piece, source, n);
      check(cudaMemcpyAsync(to, piece, n, cudaMemcpyHostToDevice, stream_), "writing to a device");
      to += n, source += n, bytes -= n;
    }
  }

  void read(void* to, const std::byte* from, size_t bytes, bool pinned) {
    if (pinned) {
      check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "reading from a device");
      return wait();
    }
    auto* target = static_cast<std::byte*>(to);
    while (bytes > 0) {
      const size_t n = std::min(bytes, kPiece);
      std::byte* piece = stage(n);
      check(cudaMemcpyAsync(piece, from, n, cudaMemcpyDeviceToHost, stream_), "reading from a device");
      wait();
      std::memcpy(target, piece, n);
      target += n, from += n, bytes -= n;
    }
  }

  /// Where a kernel can do it: to_host is pinned.
  bool turn(const Turn& turn) {
    const auto aligned = [](const void* p, size_t to) { return reinterpret_cast<uintptr_t>(p) % to == 0; };
    constexpr size_t kWord = sizeof(uint32_t);
    if (turn.head_bytes > kLargestTurn || !aligned(turn.head, 16) || turn.bytes % kWord != 0) return false;
    if (!aligned(turn.from, kWord) || !aligned(turn.to, kWord) || !aligned(turn.to_host, kWord)) return false;
    std::byte* staged = stage(turn.head_bytes);
    std::memcpy(staged, turn.host_head, turn.head_bytes);
    launch_turn({.head = turn.head,
                 .host_head = staged,
                 .head_bytes = static_cast<unsigned>(turn.head_bytes),
                 .from = reinterpret_cast<const uint32_t*>(turn.from),
                 .to = reinterpret_cast<uint32_t*>(turn.to),
                 .to_host = static_cast<uint32_t*>(turn.to_host),
                 .words = static_cast<unsigned>(turn.bytes / kWord)},
                stream_);
    check(cudaGetLastError(), "launching a kernel");
    return true;
  }

  uint64_t mark() {
    check(cudaEventRecord(marks_[n_marks_ % kMarks], stream_), "marking a stream");
    return n_marks_++;
  }
  /// A mark whose event has been made anew is waited for longer.
  void wait(uint64_t mark) const { check(cudaEventSynchronize(marks_[mark % kMarks]), "waiting for a device"); }

  /// Memory that weights, state and arenas have taken. What is left but an eighth is for f16 copies of weights.
  void took(size_t bytes) { count(used_ + bytes); }
  void gave(size_t bytes) { count(used_ - std::min(bytes, used_)); }

  DeviceInfo info;
  HalfCopies copies;

 private:
  void count(size_t used) {
    used_ = used;
    const size_t most = info.memory_bytes / 8 * 7;
    copies.set_budget(most - std::min(most, used_));
  }

  /// A piece of the staging memory that no copy uses any more.
  std::byte* stage(size_t bytes) {
    const size_t aligned = (bytes + 255) / 256 * 256;
    if (staged_ + aligned > kStaging) {
      wait();
      staged_ = 0;
    }
    return staging_ + std::exchange(staged_, staged_ + aligned);
  }

  static constexpr size_t kMarks = 4;

  int index_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t marks_[kMarks] = {};
  uint64_t n_marks_ = 0;
  std::byte* staging_ = nullptr;
  Scratch scratch_;
  size_t staged_ = 0, used_ = 0;
  Upload upload_;
};

class CudaBackend : public Backend {
 public:
  /// The first n devices of CUDA's that this build has code for; one at least, or throws Error.
  CudaBackend(int n_devices, const CudaOptions& options) {
    std::string refused;
    for (int i = 0; i < n_devices; ++i) {
      check(cudaSetDevice(i), "choosing a device");
      if (has_code()) infos_.push_back(devices_.emplace_back(i, options.memory_limit).info);
      else
        refused += fmt::format("{}{}.{}", refused.empty() ? "" : ", ", attribute(cudaDevAttrComputeCapabilityMajor, i),
                               attribute(cudaDevAttrComputeCapabilityMinor, i));
    }
    require(!devices_.empty(), "cuda: this build has no code for GPUs of compute capability {}", refused);
  }

  std::string_view name() const override { return "cuda"; }
  std::span<const DeviceInfo> devices() const override { return infos_; }
  std::span<const Kernel> kernels() const override { return kernels_; }

  Buffer allocate(int device, size_t bytes) override {
    at(device).select();
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, std::max<size_t>(bytes, 1));
    if (status == cudaErrorMemoryAllocation) cudaGetLastError();
    require(status != cudaErrorMemoryAllocation, "cuda:{}: no memory for {} bytes", device, bytes);
    check(status, "allocating memory");
    at(device).took(bytes);
    return {*this, device, static_cast<std::byte*>(data), bytes};
  }
  void release(int device, std::byte* data, size_t bytes) noexcept override {
    at(device).enter();
    cudaFree(data);  // waits for what uses it
    at(device).gave(bytes);
    at(device).copies.forget(data);
  }
  OwnMemory own_memory(int device) override {
    at(device).select();
    return {.weight_copies = at(device).copies.bytes(),
            .scratch = kArrivals * sizeof(unsigned) + staged_scratch() + blas_scratch()};
  }
  void write(int device, std::byte* to, const void* from_host, size_t bytes) override {
    at(device).select();
    at(device).write(to, from_host, bytes);
  }
  void read(int device, void* to_host, const std::byte* from, size_t bytes) override {
    at(device).select();
    at(device).read(to_host, from, bytes, host_memory_.is_pinned(to_host, bytes));
  }
  void start_read(int device, void* to_host, const std::byte* from, size_t bytes) override {
    if (!host_memory_.is_pinned(to_host, bytes)) return read(device, to_host, from, bytes);
    at(device).select();
    check(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, at(device).stream()), "reading from a device");
  }
  void copy(int device, std::byte* to, const std::byte* from, size_t bytes) override {
    at(device).select();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, at(device).stream()), "copying on a device");
  }
  void turn(int device, const Turn& turn) override {
    at(device).select();
    if (!host_memory_.is_pinned(turn.to_host, turn.bytes) || !at(device).turn(turn)) Backend::turn(device, turn);
  }
  uint64_t mark(int device) override {
    at(device).select();
    return at(device).mark();
  }
  void wait(int device, uint64_t mark) override {
    at(device).select();
    at(device).wait(mark);
  }
  void clear(int device, std::byte* to, size_t bytes) override {
    at(device).select();
    check(cudaMemsetAsync(to, 0, bytes, at(device).stream()), "clearing memory");
  }

  std::pmr::memory_resource& host_memory() override { return host_memory_; }
  void release_source(const std::byte* host, size_t bytes) noexcept override { release_mapped(host, bytes); }

  std::unique_ptr<Steps> begin(int device) override {
    at(device).select();
    return std::make_unique<CudaSteps>(at(device).stream(), at(device).copies, at(device).scratch());
  }
  std::unique_ptr<Segment> finish(std::unique_ptr<Steps> steps) override {
    return std::make_unique<CudaSegment>(std::move(static_cast<CudaSteps&>(*steps)));
  }

  void calibrate(int device, size_t) override {
    at(device).select();
    const CudaDevice& on = at(device);
    measure(infos_[static_cast<size_t>(device)], {on.stream(), at(device).copies, on.scratch()});
  }

  void set_rates(int device, const DeviceInfo& measured) override {
    copy_rates(infos_[static_cast<size_t>(device)], measured);
  }

  std::unique_ptr<SpanRecorder> record_spans(int device) override { return cuda::record_spans(device); }

 private:
  CudaDevice& at(int device) { return devices_[static_cast<size_t>(device)]; }

  std::deque<CudaDevice> devices_;
  PinnedMemory host_memory_;
  std::vector<DeviceInfo> infos_;
  std::vector<Kernel> kernels_ = list_kernels();
};

}  // namespace
}  // namespace weft::cuda

extern "C" weft::Backend* weft_cuda_backend_6(const weft::CudaOptions& options, std::string& why_not) {
  int n = 0;
  const cudaError_t status = cudaGetDeviceCount(&n);
  if (status != cudaSuccess || n == 0) {
    why_not = fmt::format("cuda: no device: {}", status != cudaSuccess ? cudaGetErrorString(status) : "none found");
    return nullptr;
  }
  try {
    return new weft::cuda::CudaBackend(n, options);
  } catch (const weft::Error& error) {
    why_not = error.what();
    return nullptr;
  }
}
