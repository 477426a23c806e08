// The seam between what is computed and how it runs. A backend is a list of kernels, best first, over some devices.
// The two seams of weft are Schema (graph/schema.h) and this one.
#pragma once

#include <functional>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/buffer.h"
#include "graph/graph.h"
#include "graph/spans.h"

namespace weft {

/// What a kernel's arithmetic allows its result to differ by; finest first.
enum class Arithmetic : uint8_t {
  f64,   // f64 accumulation: the oracle
  f32,   // f32 activations and accumulation
  half,  // 16-bit activations, f32 accumulation
  int8,  // 8-bit activations
};

struct DeviceInfo {
  std::string name;            // "cpu", "cuda:0"
  std::string description;     // "Intel Xeon, 2 threads, avx512"
  double bandwidth_gbps = 10;  // memory read, GB/s (1e9 bytes)
  double gflops = 50;          // f32-class arithmetic, GFLOP/s
  double int8_gops = 0;        // 8-bit dot products, GOP/s; 0 = none
  double half_gflops = 0;      // 16-bit products on a unit of their own, GFLOP/s; 0 = none
  double launch_us = 1;        // fixed cost of a launch
  size_t memory_bytes = 0;     // free for copies of weights, state and arena
  size_t alignment = 64;       // of every offset in an arena, a power of two
  int threads = 1;             // that work on it, where that is a choice (cpu)
  bool host_memory = true;     // addresses are host addresses: mapped weights are used in place
  double link_gbps = 0;        // GB/s to and from host memory; 0 = it is host memory
  double link_latency_us = 0;

  /// Operations per nanosecond of a kernel's arithmetic.
  double rate(Arithmetic arithmetic) const {
    if (arithmetic == Arithmetic::int8 && int8_gops > 0) return int8_gops;
    return arithmetic == Arithmetic::half && half_gflops > 0 ? half_gflops : gflops;
  }
};

/// Largest |got - expected| that passes, relative to the largest |expected| of the tensor.
double tolerance(Arithmetic arithmetic);

/// A node, or a chain of nodes each feeding the next, that one kernel covers.
struct Match {
  const Graph* graph = nullptr;
  std::vector<NodeId> nodes;
  std::vector<int> uses;  // of each output of the last node, in order: 0 = nobody reads it

  const Node& node(size_t i = 0) const { return graph->node(nodes[i]); }
  const Node& last() const { return graph->node(nodes.back()); }
  template <typename Op>
  const Op& op(size_t i = 0) const {
    return *node(i).as<Op>();
  }
  TensorType type(size_t slot, size_t i = 0) const {
    const Value value = node(i).in[slot];
    return value ? value.type() : TensorType{};
  }
  std::vector<TensorType> types(size_t slot, size_t i = 0) const {
    std::vector<TensorType> out;
    for (const Value& value : node(i).in.list(slot)) out.push_back(value.type());
    return out;
  }
  bool wants(size_t port) const { return uses[port] > 0; }
};

/// A match with its bytes bound: what a kernel's prepare sees.
struct Call {
  Match match;
  std::vector<Slots<Tensor>> in;  // by node of the chain; a value inside the chain has null data
  std::vector<Tensor> out;        // of the last node; null data where nobody reads
  std::byte* workspace = nullptr;
  const int32_t* live = nullptr;  // on the device: [tokens, logit rows] live in this run

  Tensor input(size_t slot, size_t i = 0) const { return in[i][slot]; }
  std::span<const Tensor> inputs(size_t slot, size_t i = 0) const { return in[i].list(slot); }
};

/// Rows of the leading dimension that are live now.
inline int64_t live_rows(const TensorType& type, const int32_t* live) {
  switch (type.rows) {
    case Rows::tokens:
      return live[0];
    case Rows::logits:
      return live[1];
    case Rows::all:
      break;
  }
  return type.shape.rank() == 0 ? 1 : type.shape[0];
}

/// Where a kernel's prepare puts its work: each backend has its own (CPU phases, CUDA launches).
class Steps {
 public:
  virtual ~Steps() = default;
  std::string name;  // of what is prepared, for profilers
};

/// Work that was prepared once and is replayed for every token.
class Segment {
 public:
  virtual ~Segment() = default;
  /// Starts the work. What is launched, written and read on one device happens in that order; the host that looks at
  /// the device by itself waits first.
  virtual void launch() = 0;
  virtual void wait() = 0;
  /// Launches and waits. Microseconds that took, on the device alone if it can tell.
  virtual double timed_launch();
  /// What it is made of, for WEFT_DEBUG=2: "96 phases, 81 barriers".
  virtual std::string describe() const { return {}; }
};

/// One way to run one op, or a chain of ops, on one backend.
struct Kernel {
  std::string name;                      // "qkv_gemm.q4_0.avx2": op first
  std::vector<std::string_view> covers;  // op names; one, or a chain of single-use nodes
  Arithmetic arithmetic = Arithmetic::f32;
  int launches = 1;  // whose fixed costs it pays
  /// Nothing if it can run the match, else the reason it cannot. Null: it always can.
  std::function<std::optional<std::string>(const Match&, const DeviceInfo&)> refuses;
  /// The layout it wants for a weight of that type (node of the chain, slot); null pointer: as stored. Null: all as
  /// stored.
  std::function<const Layout*(const Match&, size_t node, size_t slot, const TensorType& weight)> layout;
  const Layout* layout_for(const Match& match, size_t node, size_t slot, const TensorType& weight) const {
    return layout ? layout(match, node, slot, weight) : nullptr;
  }
  /// Bytes of scratch it needs. Null: none.
  std::function<size_t(const Match&)> workspace;
  /// Emits the work. Runs once per plan.
  std::function<void(const Call&, Steps&)> prepare;
};

/// What lies between two runs of a device where the second starts from what the first left there.
struct Turn {
  std::byte* head;        // on the device; none of it is `from`
  const void* host_head;  // what its bytes are to be
  size_t head_bytes;
  const std::byte* from;  // on the device: a result of the first run, that is copied to
  std::byte* to;          // a place of the device, which may be in the head; null: to the host alone
  void* to_host;          // and here; wait() for a mark made afterwards
  size_t bytes;
};

/// Microseconds: max(bytes / bandwidth, flops / rate of the kernel's arithmetic) + its launches.
double predict_us(const Cost& cost, const DeviceInfo& device, const Kernel& kernel);

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;
  virtual std::span<const DeviceInfo> devices() const = 0;
  /// Why it has no devices on this machine, in one line; empty where it has some.
  virtual std::string absent() const { return {}; }
  /// All kernels; for one op, the order is the order of preference.
  virtual std::span<const Kernel> kernels() const = 0;

  /// Throws Error if the device has not that much memory.
  virtual Buffer allocate(int device, size_t bytes) = 0;
  virtual void release(int device, std::byte* data, size_t bytes) noexcept = 0;
  virtual void write(int device, std::byte* to, const void* from_host, size_t bytes) = 0;
  virtual void read(int device, void* to_host, const std::byte* from, size_t bytes) = 0;
  virtual void clear(int device, std::byte* to, size_t bytes) = 0;
  /// As read(), but it may return before the copy is done: wait() for a mark made afterwards.
  virtual void start_read(int device, void* to_host, const std::byte* from, size_t bytes) {
    read(device, to_host, from, bytes);
  }
  /// From one place of a device to another; they do not overlap.
  virtual void copy(int device, std::byte* to, const std::byte* from, size_t bytes);
  /// What `turn` says; host_head may change as soon as it returns.
  virtual void turn(int device, const Turn& turn);
  /// A point in the order of a device's work, and waiting until all before it is done. Old marks stay good.
  virtual uint64_t mark(int /*device*/) { return 0; }
  virtual void wait(int /*device*/, uint64_t /*mark*/) {}
  /// Memory of the host that read() copies to fastest, for what is read every step.
  virtual std::pmr::memory_resource& host_memory() { return *std::pmr::new_delete_resource(); }

  /// A copy of these bytes of the host has taken their place: pages of a mapped file may go, and come back when they
  /// are read again.
  virtual void release_source(const std::byte* /*host*/, size_t /*bytes*/) noexcept {}

  virtual std::unique_ptr<Steps> begin(int device) = 0;
  virtual std::unique_ptr<Segment> finish(std::unique_ptr<Steps> steps) = 0;

  /// Measures bandwidth and arithmetic rates of a device and updates devices(); quick (about a second). `working_set`:
  /// bytes that are read over and over, such as a model's weights; 0 = more than caches hold.
  virtual void calibrate(int /*device*/, size_t /*working_set*/ = 0) {}
  /// Takes the rates that an earlier calibrate() of this device found, for devices(): see rate_cache.h.
  virtual void set_rates(int /*device*/, const DeviceInfo& /*measured*/) {}
  /// The same measurements at several sizes, as a table to print; a few seconds.
  virtual std::string limits_table(int /*device*/) { return {}; }
  /// Starts noting what a device runs and when. Null where there is no such thing; throws Error, with the reason, where
  /// there could be.
  virtual std::unique_ptr<SpanRecorder> record_spans(int /*device*/) { return nullptr; }
};

struct Device {
  Backend* backend = nullptr;
  int index = 0;

  const DeviceInfo& info() const { return backend->devices()[static_cast<size_t>(index)]; }
};

/// All devices of a list of backends, in order.
std::vector<Device> devices_of(std::span<const std::unique_ptr<Backend>> backends);

}  // namespace weft
