// What a process has: switches, backends, devices, and the trace of what ran. Built once, passed by reference.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "graph/backend.h"
#include "graph/env.h"
#include "graph/rate_cache.h"
#include "graph/trace.h"

namespace weft {

class Runtime {
 public:
  Runtime(Env env, std::vector<std::unique_ptr<Backend>> backends);
  /// Writes the trace and the per-op table where the switches ask for them.
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const Env& env() const { return env_; }
  const std::vector<Device>& devices() const { return devices_; }
  /// The devices of one backend, or for "auto" every device but the oracle's. Throws Error if there is none.
  std::vector<Device> devices(std::string_view backend) const;
  Trace& trace() { return trace_; }
  /// Finds out how fast devices are, for predictions and shares of the limit: see Backend::calibrate. It is measured if
  /// this machine has not kept it, or if it is wanted `anew`; a second or two.
  void calibrate(std::span<const Device> devices, size_t working_set, bool anew = false);

 private:
  Env env_;
  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<Device> devices_;
  RateCache rates_;
  Trace trace_;
};

}  // namespace weft
