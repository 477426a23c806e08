// A backend of host memory whose kernels a test writes: its own first, then every primitive of ref.
#pragma once

#include <cstring>
#include <new>

#include "backends/ref/primitives.h"
#include "graph/runner.h"
#include "tests/support/evaluate.h"

namespace weft::testing {

class TestBackend final : public Backend {
 public:
  struct Recorded final : Steps {
    std::vector<std::function<void()>> work;
  };

  explicit TestBackend(std::vector<DeviceInfo> devices, std::vector<Kernel> kernels = {}, std::string name = "test")
      : name_(std::move(name)), devices_(std::move(devices)), kernels_(std::move(kernels)), used(devices_.size(), 0) {
    for (const ref::Primitive& primitive : ref::primitives()) {
      kernels_.push_back(kernel(fmt::format("{}.test", primitive.op), {primitive.op},
                                [&primitive](const Call& call) { primitive.run(call, 0, primitive.rows(call)); }));
    }
  }

  /// A kernel that runs a function of its call.
  static Kernel kernel(std::string name, std::vector<std::string_view> covers, std::function<void(const Call&)> run) {
    return {.name = std::move(name),
            .covers = std::move(covers),
            .arithmetic = Arithmetic::f32,
            .refuses = nullptr,
            .layout = nullptr,
            .workspace = nullptr,
            .prepare = [run = std::move(run)](const Call& call, Steps& steps) {
              static_cast<Recorded&>(steps).work.emplace_back([run, call] { run(call); });
            }};
  }

  std::string_view name() const override { return name_; }
  std::span<const DeviceInfo> devices() const override { return devices_; }
  std::span<const Kernel> kernels() const override { return kernels_; }

  Buffer allocate(int device, size_t bytes) override {
    const DeviceInfo& info = devices_[static_cast<size_t>(device)];
    size_t& in_use = used[static_cast<size_t>(device)];
    require(in_use + bytes <= info.memory_bytes, "{}: no memory for {} bytes", info.name, bytes);
    in_use += bytes;
    return {*this, device, static_cast<std::byte*>(::operator new (bytes, std::align_val_t{info.alignment})), bytes};
  }
  void release(int device, std::byte* data, size_t bytes) noexcept override {
    used[static_cast<size_t>(device)] -= bytes;
    ::operator delete (data, std::align_val_t{devices_[static_cast<size_t>(device)].alignment});
  }
  void write(int, std::byte* to, const void* from, size_t bytes) override { std::memmove(to, from, bytes); }
  void read(int, void* to, const std::byte* from, size_t bytes) override {
    std::memmove(to, from, bytes);
    bytes_read += bytes;
  }
  void clear(int, std::byte* to, size_t bytes) override { std::memset(to, 0, bytes); }
  void release_source(const std::byte* host, size_t) noexcept override { sources_released.push_back(host); }

  std::unique_ptr<Steps> begin(int) override { return std::make_unique<Recorded>(); }
  std::unique_ptr<Segment> finish(std::unique_ptr<Steps> steps) override {
    struct Replay final : Segment {
      std::vector<std::function<void()>> work;
      void launch() override {
        for (const auto& f : work) f();
      }
      void wait() override {}
    };
    auto replay = std::make_unique<Replay>();
    replay->work = std::move(static_cast<Recorded&>(*steps).work);
    return replay;
  }

 private:
  std::string name_;
  std::vector<DeviceInfo> devices_;
  std::vector<Kernel> kernels_;

 public:
  std::vector<size_t> used;  // bytes, by device
  size_t bytes_read = 0;
  std::vector<const std::byte*> sources_released;
};

/// A device that owns its memory: weights are uploaded, values copied.
inline DeviceInfo test_device(std::string name, size_t memory = size_t{1} << 30) {
  return {.name = std::move(name),
          .description = "",
          .memory_bytes = memory,
          .host_memory = false,
          .link_gbps = 1,
          .link_latency_us = 1};
}

/// `n` devices of one test backend.
inline std::unique_ptr<TestBackend> test_backend(int n, std::vector<Kernel> kernels = {}) {
  std::vector<DeviceInfo> devices;
  for (int i = 0; i < n; ++i) devices.push_back(test_device(fmt::format("test:{}", i)));
  return std::make_unique<TestBackend>(std::move(devices), std::move(kernels));
}

template <typename Backend1, typename... More>
std::vector<std::unique_ptr<Backend>> backends(std::unique_ptr<Backend1> first, std::unique_ptr<More>... more) {
  std::vector<std::unique_ptr<Backend>> list;
  list.push_back(std::move(first));
  (list.push_back(std::move(more)), ...);
  return list;
}

inline void write(Runner& runner, const Feeds& feeds) {
  for (const auto& [name, bytes] : feeds) {
    if (runner.reads_input(name)) runner.write(name, bytes.data(), bytes.size());
  }
}

inline std::vector<float> read(const Runner& runner, std::string_view output) {
  std::vector<float> values(static_cast<size_t>(runner.output_type(output).shape.elements()));
  runner.read(output, values.data(), values.size() * sizeof(float));
  return values;
}

}  // namespace weft::testing
