// Where cpu kernels put their work: phases, replayed by a thread team. A phase is `n` tasks and a function over a range
// of tasks. Each thread takes one contiguous share of the first three quarters, as large as it is fast (Shares); the
// rest goes by pieces to who is done first, so that nobody waits long for a thread whose core or memory is slower just
// then. A barrier stands only between phases that depend on each other.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "backends/cpu/team.h"
#include "graph/backend.h"

namespace weft::cpu {

/// The thread that runs a share of a phase.
struct Worker {
  int index = 0;
  std::byte* scratch = nullptr;  // its own, of CpuSteps::scratch() bytes, 64-byte aligned
  bool fresh = true;             // its first share of this phase; later ones find the scratch as it left it
};

/// Tasks of a phase, read when the phase starts: follows the live counts.
using Count = std::function<int64_t()>;
/// A range of tasks; a thread may be given several in a phase. The one with task 0 is its first.
using Work = std::function<void(int64_t first, int64_t last, const Worker& worker)>;

/// How a phase stands to the phase before it in the same call. The first phase of a call waits if the bytes it touches
/// say so.
enum class After : uint8_t {
  previous,  // waits for it
  nothing,   // independent of it
};

/// Rows of the leading dimension that are live now, held to the capacity: the count is data.
inline int64_t live_count(const TensorType& type, const int32_t* live) {
  const int64_t capacity = type.shape.rank() == 0 ? 1 : type.shape[0];
  return std::clamp<int64_t>(live_rows(type, live), 0, capacity);
}

class CpuSteps : public Steps {
 public:
  explicit CpuSteps(Team& team) : team_(team) {}

  /// A new call: what it reads and writes. Every kernel says this before its phases.
  void begin(const Call& call, size_t workspace_bytes);
  /// Each thread wants so much scratch of its own; shared by all phases, its content does not outlive a phase.
  void scratch(size_t bytes) { scratch_bytes_ = std::max(scratch_bytes_, bytes); }
  /// `grain`: shares begin at multiples of it.
  void phase(Count n_tasks, Work work, After after = After::previous, int64_t grain = 1);
  void phase(int64_t n_tasks, Work work, After after = After::previous, int64_t grain = 1) {
    phase([n_tasks] { return n_tasks; }, std::move(work), after, grain);
  }

  Team& team() const { return team_; }
  int n_barriers() const { return n_barriers_; }

 private:
  friend class CpuSegment;

  struct Range {
    const std::byte *first, *last;
  };
  struct Touched {
    std::vector<Range> read, written;
    void add(const Touched& other);
  };
  struct Phase {
    Count n_tasks;
    Work work;
    bool barrier_before;
    int64_t grain;
  };

  static bool overlap(const std::vector<Range>& a, const std::vector<Range>& b);
  bool depends() const;

  Team& team_;
  std::vector<Phase> phases_;
  Touched pending_;  // since the last barrier, by earlier calls
  Touched call_;     // by this call
  bool first_phase_ = true;
  int n_barriers_ = 0;
  size_t scratch_bytes_ = 0;
};

/// What share of the work each thread does: at first all the same, then what each has done of late. Results do not
/// depend on it.
class Shares {
 public:
  explicit Shares(int n_threads);

  /// Where the share of a thread begins, of n grains; n where `thread` is one past the last.
  int64_t begin(int64_t n, int thread) const;
  /// What a thread did in this run, for learn(). Each writes its own.
  void did(int thread, double work) { done_[static_cast<size_t>(thread)] = work; }
  /// After a run of all threads.
  void learn();

 private:
  std::vector<double> shares_, begins_, done_;
};

/// The phases of a plan's segment, ready to be replayed: launch() runs one parallel region.
class CpuSegment : public Segment {
 public:
  explicit CpuSegment(CpuSteps&& steps);
  ~CpuSegment() override;

  void launch() override;
  void wait() override {}
  std::string describe() const override;
  int n_barriers() const { return n_barriers_; }
  int n_phases() const { return static_cast<int>(phases_.size()); }

 private:
  void run(int thread, int n_threads);

  Team& team_;
  std::vector<CpuSteps::Phase> phases_;
  std::unique_ptr<std::atomic<int64_t>[]> given_;  // of each phase: tasks handed out beyond the fixed shares
  Shares shares_;
  int n_barriers_;
  size_t scratch_stride_;
  std::byte* scratch_ = nullptr;
  Team::Member member_;
};

/// Share `part` of `parts` of n tasks: contiguous, sizes differ by at most one.
constexpr int64_t share_begin(int64_t n, int64_t part, int64_t parts) {
  return n / parts * part + std::min(n % parts, part);
}

}  // namespace weft::cpu
