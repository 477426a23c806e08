#include "backends/null/null.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "graph/rate_cache.h"
#include "ops/catalogue.h"

namespace weft {
namespace {

class NullSteps final : public Steps {};

class NullSegment final : public Segment {
 public:
  void launch() override {}
  void wait() override {}
};

class NullBackend final : public Backend {
 public:
  explicit NullBackend(NullOptions options)
      : devices_(std::move(options.devices)), measured_(std::move(options.measured)), used_(devices_.size(), 0) {
    for (const Schema* op : all_schemas()) {
      if (std::ranges::find(options.without, op->name) != options.without.end()) continue;
      kernels_.push_back({.name = fmt::format("{}.null", op->name),
                          .covers = {op->name},
                          .arithmetic = Arithmetic::f32,
                          .refuses = nullptr,
                          .layout = nullptr,
                          .workspace = nullptr,
                          .prepare = [](const Call&, Steps&) {}});
    }
  }

  std::string_view name() const override { return "null"; }
  std::span<const DeviceInfo> devices() const override { return devices_; }
  std::span<const Kernel> kernels() const override { return kernels_; }

  Buffer allocate(int device, size_t bytes) override {
    size_t& used = used_[static_cast<size_t>(device)];
    const DeviceInfo& info = devices_[static_cast<size_t>(device)];
    require(bytes <= info.memory_bytes - std::min(used, info.memory_bytes),
            "{}: out of memory: asked for {} bytes, {} used of {}", info.name, bytes, used, info.memory_bytes);
    auto* data = static_cast<std::byte*>(std::calloc(std::max<size_t>(bytes, 1), 1));
    require(data != nullptr, "{}: the host cannot allocate {} bytes", info.name, bytes);
    used += bytes;
    return {*this, device, data, bytes};
  }
  void release(int device, std::byte* data, size_t bytes) noexcept override {
    used_[static_cast<size_t>(device)] -= bytes;
    std::free(data);
  }
  void write(int, std::byte* to, const void* from_host, size_t bytes) override { std::memcpy(to, from_host, bytes); }
  void read(int, void* to_host, const std::byte* from, size_t bytes) override { std::memcpy(to_host, from, bytes); }
  void clear(int, std::byte* to, size_t bytes) override { std::memset(to, 0, bytes); }

  std::unique_ptr<Steps> begin(int) override { return std::make_unique<NullSteps>(); }
  std::unique_ptr<Segment> finish(std::unique_ptr<Steps>) override { return std::make_unique<NullSegment>(); }

  void calibrate(int device, size_t) override {
    if (!measured_.empty()) set_rates(device, measured_[static_cast<size_t>(device)]);
  }
  void set_rates(int device, const DeviceInfo& measured) override {
    copy_rates(devices_[static_cast<size_t>(device)], measured);
  }

 private:
  std::vector<DeviceInfo> devices_, measured_;
  std::vector<Kernel> kernels_;
  std::vector<size_t> used_;
};

}  // namespace

std::unique_ptr<Backend> make_null_backend(NullOptions options) {
  return std::make_unique<NullBackend>(std::move(options));
}

}  // namespace weft
