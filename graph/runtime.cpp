#include "graph/runtime.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstdio>

namespace weft {

Runtime::Runtime(Env env, std::vector<std::unique_ptr<Backend>> backends)
    : env_(std::move(env)), backends_(std::move(backends)), devices_(devices_of(backends_)), rates_(env_.cache_folder) {
  if (env_.debug < 1) return;
  if (env_.debug >= 2) calibrate(devices_, 0);  // the table states shares of the limit
  for (const auto& backend : backends_) {
    if (const std::string reason = backend->absent(); !reason.empty()) fmt::print(stderr, "weft: {}\n", reason);
  }
  for (const Device& device : devices_) {
    const DeviceInfo& info = device.info();
    fmt::print(stderr, "weft: device {}: {}, {:.1f} GiB free\n", info.name, info.description,
               static_cast<double>(info.memory_bytes) / (1 << 30));
  }
}

void Runtime::calibrate(std::span<const Device> devices, size_t working_set, bool anew) {
  constexpr size_t kMostRead = size_t{1} << 30, kMostUsed = size_t{4} << 30;  // above these, rates are the same
  for (const Device& device : devices) {
    const DeviceInfo& info = device.info();
    const std::string key = fmt::format("{} of {} MiB reading {} MiB: {}", info.name,
                                        std::bit_floor(std::min(info.memory_bytes, kMostUsed)) >> 20,
                                        std::bit_ceil(std::min(working_set, kMostRead)) >> 20, info.description);
    const DeviceInfo* known = anew ? nullptr : rates_.find(key);
    if (known != nullptr) {
      device.backend->set_rates(device.index, *known);
    } else {
      device.backend->calibrate(device.index, working_set);
      rates_.keep(key, info);
    }
  }
}

Runtime::~Runtime() {
  if (!env_.trace_file.empty() && !trace_.write_chrome(env_.trace_file)) {
    fmt::print(stderr, "weft: warning: cannot write the trace to {}\n", env_.trace_file);
  }
  if (env_.debug >= 2 && !trace_.events().empty()) fmt::print(stderr, "{}", trace_.table());
}

std::vector<Device> Runtime::devices(std::string_view backend) const {
  std::vector<Device> chosen;
  for (const Device& device : devices_) {
    const std::string_view name = device.backend->name();
    if (backend == "auto" ? name != "ref" : name == backend) chosen.push_back(device);
  }
  if (chosen.empty() && backend == "auto") chosen = devices_;
  if (chosen.empty()) {
    std::vector<std::string_view> names;
    for (const auto& b : backends_) {
      require(b->name() != backend || b->absent().empty(), "backend {} is not available: {}", backend, b->absent());
      if (!b->devices().empty()) names.push_back(b->name());
    }
    fail("backend {} is not available; this machine offers: {}", backend, fmt::join(names, ", "));
  }
  return chosen;
}

}  // namespace weft
