// Random sets of invented devices for the null backend.
#pragma once

#include <cmath>
#include <random>

#include "backends/null/null.h"

namespace weft::testing {

/// One that holds copies of the weights it uses, as a GPU does.
inline DeviceInfo null_device(std::string name, size_t memory, double gbps = 10, double gflops = 50) {
  return {.name = std::move(name),
          .description = "",
          .bandwidth_gbps = gbps,
          .gflops = gflops,
          .memory_bytes = memory,
          .host_memory = false};
}

inline std::unique_ptr<Backend> null_backend(std::vector<DeviceInfo> devices, std::vector<std::string> without = {}) {
  return make_null_backend({.devices = std::move(devices), .without = std::move(without), .measured = {}});
}

/// One to four devices: memory from far too little to plenty of `needed`, speeds and links over orders of magnitude.
inline std::vector<DeviceInfo> random_devices(std::mt19937& random, size_t needed) {
  const auto between = [&](double low, double high) {  // log-uniform
    return std::exp(std::uniform_real_distribution<double>(std::log(low), std::log(high))(random));
  };
  std::vector<DeviceInfo> devices;
  const int n = std::uniform_int_distribution<int>(1, 4)(random);
  for (int i = 0; i < n; ++i) {
    DeviceInfo info =
        null_device(fmt::format("null:{}", i), static_cast<size_t>(static_cast<double>(needed) * between(0.1, 3)));
    info.bandwidth_gbps = between(0.1, 1000);
    info.gflops = between(1, 10000);
    info.launch_us = between(0.01, 10);
    info.alignment = size_t{1} << std::uniform_int_distribution<int>(4, 8)(random);
    info.host_memory = i == 0 && random() % 2 == 0;
    if (i > 0 || n > 3) {
      info.link_gbps = between(0.01, 100);
      info.link_latency_us = between(0.01, 50);
    }
    devices.push_back(std::move(info));
  }
  return devices;
}

}  // namespace weft::testing
