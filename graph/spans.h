// When a device ran what, as its profiler tells it: how much of a step nothing runs, and what each kernel adds to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

/// A kernel, a copy or a clearing of memory.
struct Span {
  std::string name;
  int64_t start_ns = 0, end_ns = 0;  // on a clock of the device
  uint64_t launch = 0;               // shared by all that one launch of a graph ran; 0: launched alone
};

struct Spans {
  std::vector<Span> list;  // in any order
  size_t lost = 0;         // records that were dropped, or have no times
};

/// Notes what a device runs, from its making to its end. Graphs that were made before it may go unseen.
class SpanRecorder {
 public:
  virtual ~SpanRecorder() = default;
  /// Waits for the device. What it ran since the last call. Throws Error if the profiler fails.
  virtual Spans take() = 0;
};

/// Some steps, all times in microseconds a step. Spans may overlap: where kernels start programmatically, the blocks of
/// the next wait inside it for the end of this one.
struct SpanReport {
  /// Spans of one name. A span adds what the latest end of all that started before it was moved by: so the rows' sum
  /// is the step.
  struct Row {
    std::string name;
    size_t count = 0;     // in all steps
    double added_us = 0;  // a step
    double gap_us = 0;    // of that, nothing ran: before its spans
    double mean_us = 0;   // of one span, from start to end
  };

  int64_t steps = 0;
  size_t lost = 0;
  double step_us = 0;         // from the first start to the last end
  double busy_us = 0;         // at least one span runs
  double gap_us = 0;          // none does, inside a launch of a graph
  double between_gap_us = 0;  // none does, elsewhere
  std::vector<Row> rows;      // those that add most first

  /// Of the step, in which nothing runs: 0 to 1.
  double gap_share() const { return step_us > 0 ? 1 - busy_us / step_us : 0; }
  /// The rows, for people.
  std::string table() const;
};

/// `spans` are those of so many steps, one after the other; `steps` is at least 1.
SpanReport report_spans(const Spans& spans, int64_t steps);

/// "gemv<QuantizedRow<FormatQ4_K>, 1, false>" of a kernel's demangled name: without what it returns and takes, and
/// without weft's own namespaces.
std::string short_kernel_name(std::string demangled);

}  // namespace weft
