// Replays a plan. Binding (kernels' prepare, uploads, folded steps) happens at construction and again only if an arena
// has moved; a run allocates nothing.
#pragma once

#include <memory_resource>
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

  /// Sets a graph input for the runs to come. Throws Error on an unknown name or more bytes than its capacity; fewer
  /// are legal (the rest keeps its bytes).
  void write(std::string_view input, const void* data, size_t bytes);
  template <typename T>
  void write(std::string_view input, std::span<const T> data) {
    write(input, data.data(), data.size_bytes());
  }

  /// Starts one step with `live.tokens` and `live.logits` rows live; the rest of `live` serves the trace.
  void run(const Workload& live);

  /// Whether follow() can be called: all of the plan is on one device that works beside the host, its last run is still
  /// there, and nobody watches.
  bool can_follow() const;
  /// As run(), with the first `bytes` of an input taken from an output of the last run, which may still be under way.
  /// They also go to `to_host`, and are there after wait() with the mark it returns, before this run is done.
  uint64_t follow(const Workload& live, std::string_view output, std::string_view input, void* to_host, size_t bytes);

  /// Copies the first `bytes` of an output of the last run to the host.
  void read(std::string_view output, void* data, size_t bytes) const;
  void wait(std::string_view output, uint64_t mark) const;
  const TensorType& output_type(std::string_view output) const;

 private:
  struct Bound {
    const SegmentPlan* segment;
    std::vector<size_t> steps;
    std::unique_ptr<Segment> work;
  };

  void bind();
  Bound bind_segment(const SegmentPlan& segment, std::span<const size_t> steps);
  double run_whole(const Workload& live);
  Tensor tensor_of(Value value, int device, const Layout* layout);
  std::byte* address_of(Value value, int device) const;
  /// The live rows of what a segment reads of other devices.
  void hand_over(const SegmentPlan& segment, const Workload& live);
  /// The live counts, which are the first bytes of a head.
  void count(const Workload& live);
  void write_head(const Workload& live);
  void launch(const Workload& live);
  /// An output of at least `bytes`, where it is.
  std::pair<const Device&, std::byte*> output_at(std::string_view output, size_t bytes) const;
  void run_observed(const Workload& live);

  struct Input {
    std::string_view name;
    size_t bytes;
    std::vector<std::optional<size_t>> offset;  // in the arena, by device
  };

  Plan plan_;
  Runtime& runtime_;
  Memory& memory_;
  StepObserver* observer_;
  bool observed_ = false;  // one step at a time: traced, checked or watched
  int bound_generation_ = -1;
  std::vector<std::byte*> arenas_;  // by device; null where the plan does nothing
  std::vector<Buffer> constants_;   // by device
  std::vector<Input> inputs_;
  std::vector<std::vector<std::byte>> heads_;  // by device: what the first bytes of its arena are to be
  std::vector<Bound> bound_;
  std::vector<Bound> whole_;             // where the table is wanted: the segments once more, to be timed as one
  std::pmr::vector<std::byte> staging_;  // of the host, for what is handed over
};

}  // namespace weft
