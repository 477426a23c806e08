#include "backends/ref/ref.h"

#include <gtest/gtest.h>

#include "backends/ref/primitives.h"
#include "convert/golden_ops.h"
#include "graph/passes/passes.h"
#include "graph/runner.h"
#include "ops/all.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::OpGraph;

TEST(RefBackend, HasAKernelForEveryPrimitiveAndNoOther) {
  const auto ref = make_ref_backend();
  for (const Schema* schema : all_schemas()) {
    const auto covers = [&](const Kernel& kernel) { return kernel.covers.front() == schema->name; };
    EXPECT_EQ(std::ranges::count_if(ref->kernels(), covers), schema->primitive() ? 1 : 0) << schema->name;
  }
  EXPECT_EQ(ref->kernels().front().arithmetic, Arithmetic::f64);
}

TEST(RefBackend, Memory) {
  const auto ref = make_ref_backend();
  EXPECT_GT(ref->devices()[0].memory_bytes, size_t{1} << 20);
  const Buffer buffer = ref->allocate(0, 100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % ref->devices()[0].alignment, 0u);
  const int value = 7;
  int back = 0;
  ref->write(0, buffer.data(), &value, sizeof value);
  ref->read(0, &back, buffer.data(), sizeof back);
  EXPECT_EQ(back, 7);
  ref->clear(0, buffer.data(), 100);
  ref->read(0, &back, buffer.data(), sizeof back);
  EXPECT_EQ(back, 0);
}

/// What other backends rely on: a primitive run in pieces gives what it gives in one.
TEST(RefPrimitives, RangesAreIndependent) {
  OpGraph g;
  const Value x = g.random({3, 4, 5}), row = g.random({5}), weight = g.random({7, 5});
  const Value ids = g.i32({3, 4}, {0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2}), experts = g.random({3, 2, 5});
  const std::vector<Value> values = {add(x, row),
                                     select(x, row, x),
                                     tanh(x),
                                     cast(x, quant::i32),
                                     reduce_sum(x),
                                     reduce_max(x),
                                     top_k(x, 2).first,
                                     permute(x, {2, 0, 1}),
                                     slice(x, 1, 1, 2),
                                     concat(1, {x, x}),
                                     concat(2, {x, x}),
                                     matmul(x, {weight, weight}),
                                     batch_matmul(x, x),
                                     batch_matmul(x, g.random({3, 5, 2}), false),
                                     indexed_matmul(x, ids, experts),
                                     gather_rows(weight, g.i32({3}, {6, 0, 9})),
                                     iota(g.graph, 9)};
  for (const Value& value : values) {
    const Node& node = g.graph.node(value.node);
    const ref::Primitive* primitive = ref::find_primitive(node.op->name);
    ASSERT_NE(primitive, nullptr);
    std::deque<std::vector<std::byte>> bytes;
    const auto tensor = [&](const TensorType& type, const std::vector<std::byte>& from) {
      bytes.push_back(from);
      bytes.back().resize(type.bytes());
      return Tensor{type, bytes.back().data(), nullptr};
    };
    const int32_t live[2] = {1 << 30, 1 << 30};
    Call whole;
    whole.match = {.graph = &g.graph, .nodes = {value.node}, .uses = std::vector<int>(node.out.size(), 1)};
    whole.live = live;
    whole.in.push_back(node.in.map(
        [&](const Value& v) { return tensor(v.type(), g.feeds.at(g.graph.node(v.node).as<InputOp>()->label)); }));
    Call pieces = whole;
    for (const TensorType& type : node.out) {
      whole.out.push_back(tensor(type, {}));
      pieces.out.push_back(tensor(type, {}));
    }
    const int64_t rows = primitive->rows(whole);
    EXPECT_GT(rows, 1) << node.op->name << " cannot be shared out";
    primitive->run(whole, 0, rows);
    for (int64_t row_at = rows - 1; row_at >= 0; --row_at) primitive->run(pieces, row_at, row_at + 1);
    for (size_t port = 0; port < node.out.size(); ++port) {
      EXPECT_EQ(std::memcmp(whole.out[port].data, pieces.out[port].data, node.out[port].bytes()), 0) << node.op->name;
    }
  }
}

/// The planned run against the evaluator: the same primitives, so the same bits.
TEST(RefBackend, GoldenFilesThroughAPlan) {
  const auto paths = golden_files(std::string(WEFT_SOURCE_DIR) + "/../shared/golden/ops");
  if (paths.empty()) GTEST_SKIP() << "no golden files: ../shared/golden/ops is absent";
  std::vector<std::unique_ptr<Backend>> backends;
  backends.push_back(make_ref_backend());
  Runtime runtime(Env{}, std::move(backends));
  for (const std::string& path : paths) {
    const GoldenCase golden(path);
    Graph graph;
    golden.build(graph);
    Memory memory;
    Runner runner(compile(graph, runtime.devices()), runtime, memory);
    for (const GoldenCase::Step& step : golden.steps()) {
      for (const auto& feed : step.feeds) {
        if (runner.reads_input(feed.input)) runner.write(feed.input, feed.bytes.data(), feed.bytes.size());
      }
      runner.run({.tokens = step.tokens, .logits = step.tokens});
      for (const auto& expected : step.expected) {
        const TensorType type = runner.output_type(expected.output);
        std::vector<std::byte> got(type.bytes());
        runner.read(expected.output, got.data(), got.size());
        EXPECT_LE(golden_error(type, got.data(), expected), 1e-5) << golden.name() << " " << expected.output;
      }
    }
  }
}

}  // namespace
}  // namespace weft
