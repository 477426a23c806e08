// A plan: a graph made concrete. Which kernel, which device, which bytes, in which order. Plain data, printable; made
// by the passes (graph/passes/), replayed by the Runner.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graph/backend.h"
#include "graph/env.h"

namespace weft {

struct Memory;

/// Nodes whose "scope.op" matches the glob go to the device of that name, or to one of the backend of that name.
struct PlaceRule {
  std::string pattern, device;
  std::string option = {};  // what asked for it; empty: --place

  std::string text() const { return option.empty() ? fmt::format("--place '{}={}'", pattern, device) : option; }
};

struct CompileOptions {
  Workload workload;                                       // what the plan will mostly run: decides placement
  bool fallback = false;                                   // lower everything that has a fallback
  bool pack = true;                                        // host devices may keep packed copies of mapped weights
  std::map<std::string, std::string, std::less<>> kernel;  // op -> part of the kernel name it may use
  std::vector<PlaceRule> place;                            // the first that matches a node counts
  /// What the devices hold for other plans already, or null: it takes of their memory, its weights need not be copied
  /// again, and the users of a state are placed where that is.
  const Memory* memory = nullptr;
  /// Bytes a device may use; absent = what it says is free. By device, in order.
  std::vector<std::optional<size_t>> memory_limit;
  Arithmetic coarsest = Arithmetic::int8;    // kernels with coarser arithmetic are not used
  size_t expansion_limit = size_t{1} << 30;  // bytes a fallback may need for one of its tensors

  static CompileOptions from(const Env& env);
};

/// Why a node is on its device.
struct Reason {
  enum class Kind : uint8_t {
    only,     // there is no other
    rule,     // a PlaceRule says so
    state,    // its state is there
    unable,   // no other can run it
    fastest,  // none runs it faster
    memory,   // one that would has no room
    values,   // one that would is not where the values are that it reads or that are read
  };
  Kind kind = Kind::only;
  std::string rule = {};             // PlaceRule::text()
  int other = -1;                    // the fastest of the other devices that can run it
  double here_us = 0, other_us = 0;  // predicted, of the node alone
};

/// A kernel applied to a match.
struct Step {
  Match match;
  const Kernel* kernel = nullptr;
  int device = 0;     // index into Plan::devices
  bool once = false;  // constant: runs when the plan is bound, not per run
  Cost cost;          // under the plan's workload
  double predicted_us = 0;
  size_t workspace_bytes = 0;
  size_t workspace_offset = 0;
};

/// Where the bytes of a value are, on one device.
struct ValueSlot {
  enum class Region : uint8_t { none, arena, constant, weight, state };
  Region region = Region::none;
  size_t offset = 0;  // in the arena or constant buffer
  size_t bytes = 0;
  Value root;               // the value whose bytes these are (itself unless it aliases another)
  int first = 0, last = 0;  // steps between which the bytes are needed, inclusive
};

struct Copy {
  Value value;
  int from = 0, to = 0;  // devices
};

/// Consecutive steps of one device: one CPU region, one CUDA graph.
struct SegmentPlan {
  int device = 0;
  bool once = false;
  std::vector<size_t> steps;
  std::vector<Copy> copies;  // before the steps
};

/// A fallback taken, and why no kernel accepted the op.
struct Refusal {
  std::string where, device;
  std::vector<std::string> reasons;  // "kernel: reason"
};

struct Plan {
  std::unique_ptr<Graph> graph;  // after lowering
  std::vector<Device> devices;
  Workload workload;
  std::vector<int> node_device;  // by node of `graph`
  std::vector<Reason> reasons;   // the same: of the node it was lowered from, where it was
  std::vector<Step> steps;       // in order
  std::vector<SegmentPlan> segments;
  std::vector<Refusal> refusals;
  std::vector<std::vector<ValueSlot>> slots;  // [device][value index]

  struct DeviceBytes {
    size_t arena = 0, constant = 0, state = 0;
    size_t head = 0;    // of the arena: the live counts and the inputs, which the host writes before each run
    size_t mapped = 0;  // weights read where the file is mapped: their pages come and go
    size_t copied = 0;  // weights packed or uploaded
    size_t held = 0;    // of them, those that are there already: CompileOptions::memory
    /// What the device must have free.
    size_t total() const { return arena + constant + state + copied; }
  };
  std::vector<DeviceBytes> bytes;  // by device
  bool packs = true;               // CompileOptions::pack, or false where packed copies did not fit

  /// Sum over steps and copies under the plan's workload, microseconds.
  double predicted_us = 0;
};

/// The first bytes of every arena (of a device that does something): int32 [tokens, logit rows] live in this run.
inline constexpr size_t kLiveBytes = 2 * sizeof(int32_t);

/// The same for a step as `live`, by what is known of the devices now: they may have been measured since.
double predict_us(const Plan& plan, const Workload& live);

std::string dump_plan(const Plan& plan);
/// A row a node: device, kernel, bytes, time as predicted for a step as `live` and as measured (microseconds, by step
/// of the plan; below 0 where it was not), and why it is there.
std::string explain_plan(const Plan& plan, const Workload& live, std::span<const double> measured_us);
/// A line for each reason why something was lowered.
std::string lowered_text(const Plan& plan);
std::string dump_memory(const Plan& plan);
/// What the plan takes of each device's memory: a table of weights, KV cache and workspace. `limits` is bytes by
/// device.
std::string memory_forecast(const Plan& plan, std::span<const size_t> limits);

}  // namespace weft
