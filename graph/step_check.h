// WEFT_CHECK: a step held against its fallback on the ref backend, or scanned for NaN, while the model runs.
#pragma once

#include <functional>

#include "graph/plan.h"
#include "graph/runtime.h"

namespace weft {

class StepCheck {
 public:
  /// Keeps host copies of the step's inputs as they are before it runs. `address` gives a value's bytes on its device.
  StepCheck(const Plan& plan, const Step& step, Runtime& runtime, std::function<std::byte*(Value)> address);

  /// Throws Error naming the step and its worst element: a NaN in a live row or, `against_ref`, a difference beyond the
  /// tolerance of the kernel's arithmetic.
  void after(const Workload& live, bool against_ref);

 private:
  std::vector<std::byte> bytes_of(Value value) const;

  const Plan& plan_;
  const Step& step_;
  Runtime& runtime_;
  std::function<std::byte*(Value)> address_;
  std::vector<std::pair<Value, std::vector<std::byte>>> before_;
};

}  // namespace weft
