// From graph to plan. The passes in order; each is one file of this folder.
#pragma once

#include "graph/plan.h"

namespace weft {

/// All passes. Throws Error, naming the node, if a node can run nowhere or memory does not suffice.
Plan compile(const Graph& graph, std::span<const Device> devices, const CompileOptions& options = {});

namespace passes {

/// A device for each node of a graph, and why; no reasons where nobody asks for them.
struct Placement {
  std::vector<int> device;
  std::vector<Reason> reason = {};
};
/// 1. place: a device for each live node, by predicted time under the devices' memory. `budget` is bytes by device.
/// Never over budget, and never slower in prediction than the best single device that fits; nothing if none can be.
std::optional<Placement> place(const Graph& graph, std::span<const Device> devices, const CompileOptions& options,
                               std::span<const size_t> budget);
/// Everything on one device: a placement for each device where that can be (memory, kernels, --place, state).
std::vector<Placement> place_on_one(const Graph& graph, std::span<const Device> devices, const CompileOptions& options,
                                    std::span<const size_t> budget);
/// The rules that match no node that runs.
std::vector<PlaceRule> idle_rules(const Graph& graph, std::span<const PlaceRule> rules);

/// 2. select: the first kernel (longest chain first) that accepts, else the fallback, else an Error with every reason.
Plan select(const Graph& graph, std::span<const Device> devices, const Placement& placement,
            const CompileOptions& options);

/// 3. fold: steps whose inputs are all constant run once.
void fold(Plan& plan);

/// 4. schedule: order, segments, copies between devices.
void schedule(Plan& plan);

/// 5. memory: lifetimes to offsets, one arena per device. `held`: see CompileOptions::memory.
void memory(Plan& plan, const Memory* held = nullptr);

// -- shared by the passes
// ----------------------------------------------------------------------------------------------

/// What a device would do with a node: a kernel (or chain), or lower it, or nothing.
struct Choice {
  const Kernel* kernel = nullptr;
  Match match;
  std::vector<std::string> reasons;  // of the kernels that refused
};
/// `uses` by value index; `chains` false considers single nodes only.
Choice choose_kernel(const Graph& graph, NodeId id, const Device& device, const CompileOptions& options,
                     std::span<const int> uses, bool chains);

/// Bytes of a device's memory that a weight takes: none where it is used as mapped.
inline size_t copy_bytes(const TensorType& weight, const Layout* layout, const DeviceInfo& device) {
  if (layout != nullptr) return layout->bytes(weight);
  return device.host_memory ? 0 : weight.bytes();
}

/// Predicted microseconds of a node on a device, through its fallback where it has no kernel; infinity if it cannot
/// run.
double predict_node_us(const Graph& graph, NodeId id, const Device& device, const CompileOptions& options);

/// Copying `bytes` between two devices, microseconds.
double transfer_us(double bytes, const Device& from, const Device& to);

/// A byte range with a lifetime in steps, inclusive, to be given an offset.
struct Lifetime {
  size_t bytes = 0;
  int first = 0, last = 0;
  size_t offset = 0;
};
/// Greedy by size: offsets such that no two items that live at the same time overlap. Returns the bytes needed.
/// Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020 (greedy by size).
size_t assign_offsets(std::span<Lifetime> items, size_t alignment, size_t reserved);

}  // namespace passes
}  // namespace weft
