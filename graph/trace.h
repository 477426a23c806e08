// What ran and how long it took: a Chrome trace (chrome://tracing, Perfetto) and a per-op table.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "graph/cost.h"

namespace weft {

class Trace {
 public:
  struct Event {
    std::string op, scope, kernel, device;
    bool lowered = false;
    double start_us = 0, time_us = 0;
    Cost cost;
    double limit_us = 0;  // the device's roofline for this cost, without the launch
  };

  /// Microseconds since the trace began.
  double now_us() const;
  void record(Event event) { events_.push_back(std::move(event)); }
  const std::vector<Event>& events() const { return events_; }
  /// A run of a plan of so many tokens: as one, and the sum of its kernels, each alone.
  void record_run(int64_t tokens, double whole_us, double alone_us);

  /// False if the file cannot be written.
  bool write_chrome(const std::string& path) const;
  /// By op and kernel: calls, time, GB/s, GFLOP/s, share of the limit; and a run's time as one.
  std::string table() const;

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::vector<Event> events_;
  struct Runs {
    int n = 0;
    double whole_us = 0, alone_us = 0;
  };
  std::map<int64_t, Runs> runs_;  // by tokens
};

}  // namespace weft
