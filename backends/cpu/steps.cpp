#include "backends/cpu/steps.h"

#include <fmt/format.h>

#include <cmath>
#include <new>
#include <numeric>

namespace weft::cpu {

constexpr size_t kAlign = 64;
constexpr int64_t kTelling = 8;    // grains a thread from which on a phase tells of its speed
constexpr int64_t kGivenPart = 4;  // a quarter of the tasks evens out threads of which one is a third slower

void CpuSteps::Touched::add(const Touched& other) {
  read.insert(read.end(), other.read.begin(), other.read.end());
  written.insert(written.end(), other.written.begin(), other.written.end());
}

bool CpuSteps::overlap(const std::vector<Range>& a, const std::vector<Range>& b) {
  for (const Range& x : a) {
    for (const Range& y : b) {
      if (x.first < y.last && y.first < x.last) return true;
    }
  }
  return false;
}

bool CpuSteps::depends() const {
  return overlap(call_.read, pending_.written) || overlap(call_.written, pending_.written) ||
         overlap(call_.written, pending_.read);
}

void CpuSteps::begin(const Call& call, size_t workspace_bytes) {
  pending_.add(call_);
  call_ = {};
  first_phase_ = true;
  const auto range = [](const std::byte* data, size_t bytes) { return Range{data, data + bytes}; };
  for (const Slots<Tensor>& in : call.in) {
    for (const Tensor& tensor : in.all()) {
      if (!tensor.data) continue;
      const size_t bytes = tensor.layout ? tensor.layout->bytes(tensor.type) : tensor.type.bytes();
      call_.read.push_back(range(tensor.data, bytes));
    }
  }
  for (const Tensor& tensor : call.out) {
    if (tensor.data) call_.written.push_back(range(tensor.data, tensor.type.bytes()));
  }
  if (call.workspace && workspace_bytes > 0) call_.written.push_back(range(call.workspace, workspace_bytes));
}

void CpuSteps::phase(Count n_tasks, Work work, After after, int64_t grain) {
  const bool barrier = first_phase_ ? depends() : after == After::previous;
  if (barrier) {
    pending_ = {};
    ++n_barriers_;
  }
  first_phase_ = false;
  phases_.push_back({std::move(n_tasks), std::move(work), barrier, grain});
}

Shares::Shares(int n_threads) : shares_(static_cast<size_t>(n_threads), 1.0 / n_threads), done_(shares_) { learn(); }

int64_t Shares::begin(int64_t n, int thread) const {
  return std::llround(begins_[static_cast<size_t>(thread)] * static_cast<double>(n));
}

void Shares::learn() {
  constexpr double kNew = 0.1, kLeast = 0.2;  // of an even share: a thread that was held up is tried again
  const auto n = static_cast<double>(shares_.size());
  const double all = std::accumulate(done_.begin(), done_.end(), 0.0);
  if (all == 0) return;  // nothing of the run told of speed
  double total = 0;
  for (size_t t = 0; t < shares_.size(); ++t) {
    shares_[t] = std::max((1 - kNew) * shares_[t] + kNew * done_[t] / all, kLeast / n);
    total += shares_[t];
  }
  begins_.assign(1, 0);
  for (const double share : shares_) begins_.push_back(begins_.back() + share / total);
  std::ranges::fill(done_, 0);
}

CpuSegment::CpuSegment(CpuSteps&& steps)
    : team_(steps.team_),
      phases_(std::move(steps.phases_)),
      given_(std::make_unique<std::atomic<int64_t>[]>(phases_.size())),
      shares_(team_.size()),
      n_barriers_(steps.n_barriers_),
      scratch_stride_((steps.scratch_bytes_ + kAlign - 1) / kAlign * kAlign) {
  const size_t bytes = scratch_stride_ * static_cast<size_t>(team_.size());
  if (bytes > 0) scratch_ = static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kAlign}));
  member_ = [this](int thread, int n_threads) { run(thread, n_threads); };
}

CpuSegment::~CpuSegment() { ::operator delete (scratch_, std::align_val_t{kAlign}); }

std::string CpuSegment::describe() const { return fmt::format("{} phases, {} barriers", n_phases(), n_barriers_); }

void CpuSegment::launch() {
  for (size_t i = 0; i < phases_.size(); ++i) given_[i].store(0, std::memory_order_relaxed);
  team_.run(member_);
  shares_.learn();
}

void CpuSegment::run(int thread, int n_threads) {
  double mine = 0;
  Worker worker{thread, scratch_ + scratch_stride_ * static_cast<size_t>(thread)};
  for (size_t i = 0; i < phases_.size(); ++i) {
    const CpuSteps::Phase& phase = phases_[i];
    if (phase.barrier_before) team_.barrier().wait(n_threads);
    const int64_t n = phase.n_tasks(), grain = phase.grain, grains = n / grain;
    const int64_t fixed = n_threads == 1 ? grains : grains - grains / kGivenPart;
    worker.fresh = true;
    int64_t done = 0;
    const auto work = [&](int64_t first, int64_t last) {
      if (first < last) {
        phase.work(first, last, worker);
        worker.fresh = false;
        done += last - first;
      }
    };
    const auto begin = [&](int t) {  // equal ones where fewer threads were granted than asked for
      return n_threads == team_.size() ? shares_.begin(fixed, t) : share_begin(fixed, t, n_threads);
    };
    work(begin(thread) * grain, begin(thread + 1) * grain);
    const int64_t rest = n - fixed * grain;
    for (int64_t at = given_[i].load(std::memory_order_relaxed); at < rest;) {
      const int64_t size = std::max<int64_t>((rest - at) / (2 * n_threads) / grain, 1) * grain;
      if (!given_[i].compare_exchange_weak(at, at + size, std::memory_order_relaxed)) continue;
      work(n - rest + at, std::min(n - rest + at + size, n));
      at = given_[i].load(std::memory_order_relaxed);
    }
    if (grains >= kTelling * n_threads) mine += static_cast<double>(done) / static_cast<double>(n);
  }
  shares_.did(thread, mine);
}

}  // namespace weft::cpu
