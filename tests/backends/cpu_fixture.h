// Runs one node, or a chain, through a given cpu kernel, with guarded memory around everything it may write.
#pragma once

#include <gtest/gtest.h>

#include "backends/cpu/cpu.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/steps.h"
#include "tests/support/op_fixture.h"

namespace weft::testing {

/// Bytes between two sentinels, 64-byte aligned, filled with NaN.
class Guarded {
 public:
  explicit Guarded(size_t bytes) : bytes_(bytes), store_(bytes + 3 * kGuard, kSentinel) {
    const auto at = reinterpret_cast<uintptr_t>(store_.data());
    offset_ = kGuard + (64 - at % 64) % 64;
    std::fill_n(data(), bytes, std::byte{0xFF});
  }
  std::byte* data() { return store_.data() + offset_; }
  bool intact() const {
    for (size_t i = 0; i < store_.size(); ++i) {
      if ((i < offset_ || i >= offset_ + bytes_) && store_[i] != kSentinel) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr std::byte kSentinel{0xA5};
  size_t bytes_, offset_ = 0;
  std::vector<std::byte> store_;
};

/// What a run gave: by output of the last node; empty where it was not wanted.
using Ports = std::vector<HostTensor>;

/// Null if there is none of that name.
inline const Kernel* find_kernel(std::span<const Kernel> kernels, std::string_view name) {
  for (const Kernel& kernel : kernels) {
    if (kernel.name == name) return &kernel;
  }
  return nullptr;
}
inline const Kernel* find_kernel(const Backend& backend, std::string_view name) {
  return find_kernel(backend.kernels(), name);
}

struct CpuRun {
  Backend* backend;
  const Kernel* kernel;
  std::vector<NodeId> chain;
  std::vector<bool> wanted;  // outputs of the last node; empty: all
  int repeats = 1;
  int n_barriers = 0;  // out

  /// States are those of `g` before the run; they are not changed.
  Ports run(const OpGraph& g) {
    Call call;
    std::deque<Guarded> memory;
    call.match = {.graph = &g.graph, .nodes = chain, .uses = {}};
    const Node& last = g.graph.node(chain.back());
    for (size_t port = 0; port < last.out.size(); ++port) {
      call.match.uses.push_back(wanted.empty() || wanted[port] ? 1 : 0);
    }
    for (size_t n = 0; n < chain.size(); ++n) {
      const Node& node = g.graph.node(chain[n]);
      Slots<Tensor> in;
      for (size_t slot = 0; slot < node.in.size(); ++slot) {
        std::vector<Tensor> items;
        for (const Value& value : node.in.list(slot)) {
          const Tensor tensor = bind(g, value, memory);
          const Layout* layout = kernel->layout ? kernel->layout(call.match, n, slot, tensor.type) : nullptr;
          items.push_back(layout ? packed(tensor, *layout, memory) : tensor);
        }
        in.add(items);
      }
      call.in.push_back(std::move(in));
    }
    for (size_t port = 0; port < last.out.size(); ++port) {
      const int alias = last.op->outputs[port].alias;
      Tensor out{last.out[port], nullptr, nullptr};
      if (alias >= 0) {
        out.data = call.in.back()[static_cast<size_t>(alias)].data;
      } else if (call.match.wants(port)) {
        out.data = memory.emplace_back(out.type.bytes()).data();
      }
      call.out.push_back(out);
    }
    if (kernel->refuses) {
      const auto reason = kernel->refuses(call.match, backend->devices()[0]);
      EXPECT_FALSE(reason.has_value()) << *reason;
      if (reason) return {};
    }
    const size_t workspace = kernel->workspace ? kernel->workspace(call.match) : 0;
    if (workspace > 0) call.workspace = memory.emplace_back(workspace).data();
    const int32_t live[2] = {g.live.tokens, g.live.logits};
    call.live = live;

    auto steps = backend->begin(0);
    kernel->prepare(call, *steps);
    n_barriers = static_cast<cpu::CpuSteps&>(*steps).n_barriers();
    const auto segment = backend->finish(std::move(steps));
    for (int i = 0; i < repeats; ++i) {
      segment->launch();
      segment->wait();
    }
    for (const Guarded& guarded : memory) EXPECT_TRUE(guarded.intact()) << kernel->name << " wrote out of bounds";
    Ports ports;
    for (const Tensor& out : call.out) {
      ports.push_back(out.data ? HostTensor{out.type, {out.data, out.data + out.type.bytes()}} : HostTensor{});
    }
    return ports;
  }

 private:
  static Tensor packed(const Tensor& tensor, const Layout& layout, std::deque<Guarded>& memory) {
    const Tensor to{tensor.type, memory.emplace_back(layout.bytes(tensor.type)).data(), &layout};
    layout.pack(tensor, to.data, 0, tensor.type.shape.rows());
    return to;
  }

  Tensor bind(const OpGraph& g, Value value, std::deque<Guarded>& memory) {
    const Node& node = g.graph.node(value.node);
    if (const auto* weight = node.as<WeightOp>()) return weight->host;
    Tensor tensor{value.type(), nullptr, nullptr};
    if (!is_source(node)) return tensor;  // inside the chain
    tensor.data = memory.emplace_back(tensor.type.bytes()).data();
    std::vector<std::byte> bytes;
    if (const auto* input = node.as<InputOp>()) bytes = g.feeds.at(input->label);
    if (const auto* state = node.as<StateOp>()) {
      const auto it = g.states.find(state->label);
      bytes = it == g.states.end() ? std::vector<std::byte>(tensor.type.bytes()) : it->second.bytes;
    }
    if (!bytes.empty()) std::memcpy(tensor.data, bytes.data(), bytes.size());
    return tensor;
  }
};

/// The live rows of a tensor as f32.
inline std::vector<float> live_values(const HostTensor& tensor, const Live& live) {
  std::vector<float> values = tensor.values();
  const int32_t counts[2] = {live.tokens, live.logits};
  const int64_t rows = cpu::live_count(tensor.type, counts);
  values.resize(values.size() / static_cast<size_t>(tensor.type.shape[0]) * static_cast<size_t>(rows));
  return values;
}

/// Every difference within `tolerance` of the largest |expected|, or of `scale` if that is larger.
inline void expect_close(const std::vector<float>& got, const std::vector<float>& expected, double tolerance,
                         const std::string& what, double scale = 1e-30) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (const float e : expected) scale = std::max(scale, std::abs(static_cast<double>(e)));
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    if (!(error <= tolerance * scale)) {
      ADD_FAILURE() << what << ": element " << i << " is " << got[i] << ", expected " << expected[i];
      return;
    }
  }
}

/// A weight [n, k] of any type from seeded normal values; its bytes live in `store`.
inline Value random_weight(OpGraph& g, std::deque<std::vector<std::byte>>& store, DType dtype, int64_t n, int64_t k) {
  const TensorType type{dtype, {n, k}, Rows::all};
  const auto values = g.random_values(n * k, 0.2f);
  store.emplace_back(type.bytes());
  for (int64_t r = 0; r < n; ++r) {
    dtype->encode(values.data() + r * k, store.back().data() + static_cast<size_t>(r) * type.row_bytes(),
                  static_cast<size_t>(k), nullptr);
  }
  return g.graph.weight(fmt::format("w{}", store.size()), {type, store.back().data(), nullptr});
}

}  // namespace weft::testing
