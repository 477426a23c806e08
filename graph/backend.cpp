#include "graph/backend.h"

#include <chrono>

namespace weft {

void Backend::copy(int device, std::byte* to, const std::byte* from, size_t bytes) {
  std::vector<std::byte> host(bytes);
  read(device, host.data(), from, bytes);
  write(device, to, host.data(), bytes);
}

void Backend::turn(int device, const Turn& turn) {
  write(device, turn.head, turn.host_head, turn.head_bytes);
  if (turn.to != nullptr) copy(device, turn.to, turn.from, turn.bytes);
  start_read(device, turn.to_host, turn.from, turn.bytes);
}

double Segment::timed_launch() {
  const auto start = std::chrono::steady_clock::now();
  launch();
  wait();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

Buffer::~Buffer() {
  if (backend_ != nullptr) backend_->release(device_, data_, bytes_);
}

double tolerance(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::f64:
      return 1e-6;
    case Arithmetic::f32:
      return 1e-5;
    case Arithmetic::half:
      return 1e-2;
    case Arithmetic::int8:
      return 3e-2;
  }
  return 0;
}

double predict_us(const Cost& cost, const DeviceInfo& device, const Kernel& kernel) {
  return std::max(cost.bytes() / device.bandwidth_gbps, cost.flops / device.rate(kernel.arithmetic)) / 1e3 +
         kernel.launches * device.launch_us;
}

std::vector<Device> devices_of(std::span<const std::unique_ptr<Backend>> backends) {
  std::vector<Device> devices;
  for (const auto& backend : backends) {
    for (int i = 0; i < static_cast<int>(backend->devices().size()); ++i) devices.push_back({backend.get(), i});
  }
  return devices;
}

}  // namespace weft
