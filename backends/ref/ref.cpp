#include "backends/ref/ref.h"

#include <unistd.h>

#include <cstring>
#include <new>

#include "backends/ref/primitives.h"

namespace weft {
namespace {

/// Functions run in order.
struct RefSteps : Steps {
  std::vector<std::function<void()>> steps;
};

class RefSegment : public Segment {
 public:
  explicit RefSegment(std::vector<std::function<void()>> steps) : steps_(std::move(steps)) {}
  void launch() override {
    for (const auto& step : steps_) step();
  }
  void wait() override {}

 private:
  std::vector<std::function<void()>> steps_;
};

Kernel make_kernel(const ref::Primitive& primitive) {
  return {.name = fmt::format("{}.ref", primitive.op),
          .covers = {primitive.op},
          .arithmetic = Arithmetic::f64,
          .refuses = nullptr,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = [&primitive](const Call& call, Steps& steps) {
            static_cast<RefSteps&>(steps).steps.emplace_back(
                [&primitive, call] { primitive.run(call, 0, primitive.rows(call)); });
          }};
}

class RefBackend : public Backend {
 public:
  RefBackend() {
    for (const ref::Primitive& primitive : ref::primitives()) kernels_.push_back(make_kernel(primitive));
    device_.memory_bytes = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  }

  std::string_view name() const override { return "ref"; }
  std::span<const DeviceInfo> devices() const override { return {&device_, 1}; }
  std::span<const Kernel> kernels() const override { return kernels_; }

  Buffer allocate(int device, size_t bytes) override {
    auto* data = static_cast<std::byte*>(
        ::operator new (std::max<size_t>(1, bytes), std::align_val_t{device_.alignment}, std::nothrow));
    require(data != nullptr, "ref: no memory for {} bytes", bytes);
    return {*this, device, data, bytes};
  }
  void release(int, std::byte* data, size_t) noexcept override {
    ::operator delete (data, std::align_val_t{device_.alignment});
  }
  void write(int, std::byte* to, const void* from_host, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from_host, bytes);
  }
  void read(int, void* to_host, const std::byte* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to_host, from, bytes);
  }
  void clear(int, std::byte* to, size_t bytes) override {
    if (bytes > 0) std::memset(to, 0, bytes);
  }

  std::unique_ptr<Steps> begin(int) override { return std::make_unique<RefSteps>(); }
  std::unique_ptr<Segment> finish(std::unique_ptr<Steps> steps) override {
    return std::make_unique<RefSegment>(std::move(static_cast<RefSteps&>(*steps).steps));
  }

 private:
  /// Slow on paper too, so that placement never prefers it.
  DeviceInfo device_{.name = "ref",
                     .description = "plain loops on the host",
                     .bandwidth_gbps = 1,
                     .gflops = 1,
                     .launch_us = 1,
                     .memory_bytes = 0,
                     .alignment = 64,
                     .host_memory = true};
  std::vector<Kernel> kernels_;
};

}  // namespace

std::unique_ptr<Backend> make_ref_backend() { return std::make_unique<RefBackend>(); }

}  // namespace weft
