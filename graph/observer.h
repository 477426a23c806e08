// A look at the values of a plan while it runs, step by step.
#pragma once

#include <functional>
#include <vector>

#include "graph/backend.h"

namespace weft {

/// One step, with its values readable.
struct StepView {
  const Match& match;
  const Workload& live;  // of this run
  /// The bytes of an input (before the step) or output (after it) that is no part of a chain, on the host.
  std::function<std::vector<std::byte>(Value)> bytes;
  double time_us = 0;  // after the step: how long it took
};

/// Called around every step of every plan of the session it is given to. A session with an observer runs one step at a
/// time.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void before(const StepView& /*step*/) {}
  virtual void after(const StepView& /*step*/) {}
};

}  // namespace weft
