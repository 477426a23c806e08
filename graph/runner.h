// Replays a plan. Binding (kernels' prepare, uploads, folded steps) happens at construction and again only if an arena
// has moved; a run allocates nothing.
#pragma once

#include <span>
#include <string_view>

#include "graph/observer.h"
#include "graph/plan.h"
#include "graph/runtime.h"
#include "graph/weight_store.h"

namespace weft {

class Runner {
 public:
  /// `memory` is shared by all plans of a session and must outlive the runner.
  /// `observable` false: not traced, checked or dumped whatever the switches say. `observer`, if given, must outlive
  /// the runner.
  Runner(Plan plan, Runtime& runtime, Memory& memory, bool observable = true, StepObserver* observer = nullptr);

  const Plan& plan() const { return plan_; }
  /// Whether the plan reads an input of that name (an input nothing needs is dropped).
  bool reads_input(std::string_view name) const;

  /// Writes a graph input on every device that reads it. Throws Error on an unknown name or more bytes than its
  /// capacity; fewer are legal (the rest keeps its bytes).
  void write(std::string_view input, const void* data, size_t bytes);
  template <typename T>
  void write(std::string_view input, std::span<const T> data) {
    write(input, data.data(), data.size_bytes());
  }

  /// One step with `live.tokens` and `live.logits` rows live; the rest of `live` serves the trace.
  void run(const Workload& live);

  /// Copies the first `bytes` of an output to the host.
  void read(std::string_view output, void* data, size_t bytes) const;
  const TensorType& output_type(std::string_view output) const;

 private:
  void bind();
  void bind_segment(const SegmentPlan& segment, std::span<const size_t> steps);
  void describe(const SegmentPlan& segment);
  Tensor tensor_of(Value value, int device, const Layout* layout);
  std::byte* address_of(Value value, int device) const;
  void copy(const Copy& copy);
  void write_live(const Workload& live);
  void run_observed(const Workload& live);

  struct Bound {
    const SegmentPlan* segment;
    std::vector<size_t> steps;
    std::unique_ptr<Segment> work;
  };

  Plan plan_;
  Runtime& runtime_;
  Memory& memory_;
  StepObserver* observer_;
  bool observed_ = false;  // one step at a time: traced, checked or watched
  int bound_generation_ = -1;
  std::vector<std::byte*> arenas_;  // by device; null where the plan does nothing
  std::vector<Buffer> constants_;   // by device
  std::vector<Bound> bound_;
  std::vector<std::byte> staging_;  // for copies between devices
};

}  // namespace weft
