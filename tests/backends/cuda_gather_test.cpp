// Gathered rows on a GPU against their definition on ref: every weight type, tables with and without positions, ids
// that are in no table, rows that are not live, columns that fill blocks and that do not, more rows than a grid has.
#include "ops/all.h"
#include "ops/quant/all.h"
#include "tests/backends/cuda_fixture.h"

namespace weft::testing {
namespace {

class CudaGather : public ::testing::Test {
 protected:
  void SetUp() override {
    if (backend_->devices().empty()) GTEST_SKIP() << backend_->absent();
  }

  /// Any bytes are blocks of a type that has no encoder; what is no number is none here and there.
  Value table(OpGraph& g, const TypeTraits& type, int64_t n, int64_t d) {
    if (type.encode) return random_weight(g, store_, type, n, d);
    const TensorType tensor{type, {n, d}, Rows::all};
    std::vector<std::byte>& bytes = store_.emplace_back(tensor.bytes());
    for (size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::byte>((i * i * 131 + i * 29 + i / 251) & 0xFF);
    return g.graph.weight(fmt::format("w{}", store_.size()), {tensor, bytes.data(), nullptr});
  }

  void check(const std::string& what, std::string_view name, OpGraph& g, NodeId id) {
    const Kernel* kernel = find_kernel(*backend_, name);
    ASSERT_NE(kernel, nullptr);
    const Ports ports = run_on_device(g, id, *backend_, *kernel);
    ASSERT_EQ(ports.size(), 1u) << what;
    g.graph.output("y", {&g.graph, id, 0});
    States states = g.states;
    const auto expected = live_values(evaluate(g.graph, g.feeds, states, g.live).at("y"), g.live);
    const auto got = live_values(ports[0], g.live);
    ASSERT_EQ(got.size(), expected.size()) << what;
    for (size_t i = 0; i < got.size(); ++i) {
      if (std::isnan(got[i]) && std::isnan(expected[i])) continue;
      // A block's scale * code - min may be one rounding or two.
      const float within = 1e-6f * std::max(1.0f, std::abs(expected[i]));
      ASSERT_TRUE(got[i] == expected[i] || std::abs(got[i] - expected[i]) <= within)
          << what << ": element " << i << " is " << got[i] << ", not " << expected[i];
    }
  }

  std::deque<std::vector<std::byte>> store_;
  std::unique_ptr<Backend> backend_ = load_cuda_backend();
};

TEST_F(CudaGather, EmbeddingsOfEveryType) {
  for (const TypeTraits* type : quant::kAllTypes) {
    const auto e = static_cast<int64_t>(type->block_elems);
    for (const int64_t d : {e, 5 * e, e == 1 ? 769 : 17 * e}) {
      for (const TypeTraits* positions :
           {static_cast<const TypeTraits*>(nullptr), &quant::f32, &quant::f16, &quant::bf16}) {
        OpGraph g;
        g.live.tokens = 6;
        const Value ids = g.i32({7}, {3, 0, 16, -1, 17, 1 << 30, 2}, Rows::tokens);
        const Value at = g.i32({7}, {0, 1, 9, 2, 3, -3, 5}, Rows::tokens);
        const Value tokens = table(g, *type, 17, d);
        const Value others = positions != nullptr ? table(g, *positions, 11, d) : Value{};
        const Embedding op{.position_offset = positions != nullptr ? 2 : 0, .scale = 1.5f};
        const NodeId id = g.graph.add(op, {ids, tokens, others ? at : Value{}, others})[0].node;
        check(fmt::format("{} of {}, positions of {}", d, type->name, positions != nullptr ? positions->name : "none"),
              "embedding.f32", g, id);
      }
    }
  }
}

TEST_F(CudaGather, OneTokenAndMoreThanAGridHas) {
  struct Ask {
    int64_t rows, live, d;
  };
  for (const Ask& s : {Ask{1, 1, 4096}, Ask{1, 0, 256}, Ask{70000, 69999, 3}, Ask{2, 2, 140000}}) {
    OpGraph g;
    g.live.tokens = static_cast<int32_t>(s.live);
    std::vector<int32_t> ids(static_cast<size_t>(s.rows));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7 % 5) - 1;
    const Value x = g.random({3, s.d});
    const NodeId id = gather_rows(x, g.i32({s.rows}, ids, Rows::tokens)).node;
    check(fmt::format("{} rows of {}", s.rows, s.d), "gather_rows.plain", g, id);
  }
}

TEST_F(CudaGather, AQuantizedTableOfPositionsIsRefused) {
  OpGraph g;
  const Value ids = g.i32({1}, {0}, Rows::tokens);
  const NodeId id =
      g.graph.add(Embedding{}, {ids, table(g, quant::f16, 4, 64), ids, table(g, quant::q8_0, 4, 64)})[0].node;
  const Kernel* kernel = find_kernel(*backend_, "embedding.f32");
  ASSERT_NE(kernel, nullptr);
  const auto reason = kernel->refuses({.graph = &g.graph, .nodes = {id}, .uses = {1}}, backend_->devices()[0]);
  EXPECT_EQ(reason, "it adds no rows of q8_0");
}

}  // namespace
}  // namespace weft::testing
