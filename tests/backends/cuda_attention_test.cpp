// softmax_context.decode on a GPU against its `lower` on ref: every cache format and width of head, groups of query
// heads that fill a tile and that do not, lengths at the edges of tiles, parts and pages.
#include "ops/quant/all.h"
#include "tests/backends/attention_steps.h"
#include "tests/backends/cuda_fixture.h"

namespace weft::testing {
namespace {

class CudaDecode : public ::testing::Test {
 protected:
  void SetUp() override {
    if (backend_->devices().empty()) GTEST_SKIP() << backend_->absent();
    kernel_ = find_kernel(*backend_, "softmax_context.decode");
    ASSERT_NE(kernel_, nullptr);
  }

  void check(const Variant& v, const Batch& b, DType cache) {
    OpGraph g;
    const NodeId node = make_step(g, v, b, cache);
    const Ports got = run_on_device(g, node, *backend_, *kernel_);
    const std::string what =
        fmt::format("{}, {} x {} heads of {}, {} cache, {} sequences, {} cached", v.name, v.op.n_kv_head,
                    v.op.n_head / v.op.n_kv_head, v.op.d_head, cache.name(), b.past.size(), b.past[0]);
    for (const uint8_t port : {0, 1, 2}) g.graph.output(fmt::format("o{}", port), {&g.graph, node, port});
    States states = g.states;
    const Outputs expected = evaluate(g.graph, g.feeds, states, g.live);
    // Queries and weights are rounded to the cache's 16 bits: 8 of them of bf16.
    const double within = cache == quant::f16 ? 2e-3 : 1e-2;
    for (size_t port = 0; port < got.size(); ++port) {
      expect_close(live_values(got[port], g.live), live_values(expected.at(fmt::format("o{}", port)), g.live), within,
                   fmt::format("{}: output {}", what, port));
    }
  }
  static Variant plain(int n_head, int n_kv_head, int d) {
    Variant v{"rotary", heads(n_head, n_kv_head, d)};
    v.op.rotary = Rotary::half;
    v.op.rotary_dim = d / 2;
    return v;
  }
  static Batch one(int length, int page = 64) { return {{length - 1}, {1}, 1, page}; }

  std::unique_ptr<Backend> backend_ = load_cuda_backend();
  const Kernel* kernel_ = nullptr;
};

TEST_F(CudaDecode, EveryWidthAndCacheFormatAtEveryLength) {
  for (const DType cache : {DType(quant::f16), DType(quant::bf16), DType(quant::q8_0)}) {
    for (const int d : {64, 80, 96, 128, 256}) {
      if (d % cache->block_elems != 0) continue;
      for (const int length : {1, 15, 16, 17, 1000, 5000}) check(plain(8, 2, d), one(length), cache);
    }
  }
}

TEST_F(CudaDecode, GroupsOfAnySize) {
  for (const int group : {1, 2, 4, 7, 8, 9, 16}) {
    for (const int length : {17, 1000}) check(plain(2 * group, 2, 128), one(length, 16), quant::f16);
  }
}

TEST_F(CudaDecode, MasksAndScores) {
  const auto variant = [](std::string name, auto change) {
    Variant v = plain(8, 2, 128);
    v.name = std::move(name);
    change(v);
    return v;
  };
  const auto window = [](Variant& v) { v.op.window = 100; };
  const auto cap = [](Variant& v) { v.op.softcap = 2; };
  const auto alibi = [](Variant& v) { v.op.alibi = true; };
  const auto sinks = [](Variant& v) { v.sinks = true; };
  const auto norm = [](Variant& v) { v.q_norm = true; };
  const auto all = [&](Variant& v) { window(v), cap(v), alibi(v), sinks(v), norm(v), v.whole_row = true; };
  for (const int length : {1, 16, 100, 101, 1000}) {
    for (const Variant& v : {variant("window", window), variant("softcap", cap), variant("alibi", alibi),
                             variant("sinks", sinks), variant("qk norm", norm), variant("all", all)}) {
      for (const DType cache : {DType(quant::f16), DType(quant::q8_0)}) check(v, one(length), cache);
    }
  }
}

TEST_F(CudaDecode, SeveralSequencesAndTokens) {
  for (const DType cache : {DType(quant::f16), DType(quant::bf16), DType(quant::q8_0)}) {
    check(plain(8, 2, 128), {{0, 14, 999, 64}, {1, 1, 1, 1}, 8, 64}, cache);
    check(plain(6, 2, 64), {{3, 0, 218, 0}, {1, 7, 20, 0}, 32, 16}, cache);
  }
}

TEST_F(CudaDecode, RefusesWhatItsTilesDoNotFit) {
  const auto reason = [&](int d, int page, int tokens, DType cache) {
    OpGraph g;
    const NodeId node = make_step(g, plain(4, 2, d), {{0}, {tokens}, tokens, page}, cache);
    return kernel_->refuses({.graph = &g.graph, .nodes = {node}, .uses = {1, 1, 1}}, backend_->devices()[0]);
  };
  EXPECT_FALSE(reason(64, 16, 1, quant::f16).has_value());
  EXPECT_TRUE(reason(64, 4, 1, quant::f16).has_value()) << "pages of less than a tile";
  EXPECT_TRUE(reason(32, 16, 1, quant::f16).has_value()) << "a width it was not made for";
  EXPECT_TRUE(reason(64, 16, 1, quant::f32).has_value()) << "f32 keys";
  EXPECT_TRUE(reason(64, 16, 65, quant::f16).has_value()) << "many tokens";
}

}  // namespace
}  // namespace weft::testing
