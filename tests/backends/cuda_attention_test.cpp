// softmax_context's 16-bit kernels on a GPU against its `lower` on ref: every cache format and width of head, groups of
// query heads, lengths at the edges of tiles, parts and pages, masks.
#include <functional>

#include "ops/quant/all.h"
#include "tests/backends/attention_steps.h"
#include "tests/backends/cuda_fixture.h"

namespace weft::testing {
namespace {

class CudaAttention : public ::testing::Test {
 protected:
  explicit CudaAttention(std::string kernel) : name_(std::move(kernel)) {}
  void SetUp() override {
    if (backend_->devices().empty()) GTEST_SKIP() << backend_->absent();
    kernel_ = find_kernel(*backend_, name_);
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
  static Variant changed(std::string name, const std::function<void(Variant&)>& change) {
    Variant v = plain(8, 2, 128);
    v.name = std::move(name);
    change(v);
    return v;
  }
  /// Windows, caps, slopes, sinks, norms, and all of them.
  static std::vector<Variant> masks_and_scores() {
    const auto window = [](Variant& v) { v.op.window = 100; };
    const auto cap = [](Variant& v) { v.op.softcap = 2; };
    const auto alibi = [](Variant& v) { v.op.alibi = true; };
    const auto sinks = [](Variant& v) { v.sinks = true; };
    const auto norm = [](Variant& v) { v.q_norm = true; };
    const auto all = [&](Variant& v) { window(v), cap(v), alibi(v), sinks(v), norm(v), v.whole_row = true; };
    return {changed("window", window), changed("softcap", cap),  changed("alibi", alibi),
            changed("sinks", sinks),   changed("qk norm", norm), changed("all", all)};
  }

  std::unique_ptr<Backend> backend_ = load_cuda_backend();
  const Kernel* kernel_ = nullptr;

 private:
  std::string name_;
};

class CudaDecode : public CudaAttention {
 protected:
  CudaDecode() : CudaAttention("softmax_context.decode") {}
  static Batch one(int length, int page = 64) { return {{length - 1}, {1}, 1, page}; }
};

class CudaFlash : public CudaAttention {
 protected:
  CudaFlash() : CudaAttention("softmax_context.flash") {}
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
  for (const int length : {1, 16, 100, 101, 1000}) {
    for (const Variant& v : masks_and_scores()) {
      for (const DType cache : {DType(quant::f16), DType(quant::q8_0)}) check(v, one(length), cache);
    }
  }
}

TEST_F(CudaDecode, SeveralSequencesAndTokens) {
  for (const DType cache : {DType(quant::f16), DType(quant::bf16), DType(quant::q8_0)}) {
    check(plain(8, 2, 128), {{0, 14, 999, 64}, {1, 1, 1, 1}, 8, 64}, cache);
    check(plain(6, 2, 64), {{3, 0, 218, 0}, {1, 7, 20, 0}, 32, 16}, cache);
    // A plan with a sequence for each token: each appends its own, and what those before it in its sequence have.
    check(plain(8, 2, 128), {{0, 14, 999, 64}, {1, 1, 1, 1}, 4, 64}, cache);
    check(plain(8, 2, 128), {{30, 0, 126, 7, 500, 3}, {2, 0, 3, 1, 0, 0}, 6, 16}, cache);
    check(plain(18, 2, 64), {{126, 9, 0, 0, 1}, {4, 0, 0, 0, 0}, 5, 16}, cache);
  }
}

// The output projection takes the context as the kernel before it leaves it, f32 nowhere.
TEST_F(CudaDecode, ContextAsTheProjectionTakesIt) {
  const Kernel* kernel = find_kernel(*backend_, "softmax_context+vector_matmul.skinny");
  ASSERT_NE(kernel, nullptr);
  for (const DType cache : {DType(quant::f16), DType(quant::q8_0)}) {
    for (const Batch& b :
         {Batch{{0, 14, 999, 64}, {1, 1, 1, 1}, 4, 64}, Batch{{0, 14, 999}, {7, 3, 1}, 17, 64},
          Batch{{5, 40}, {20, 12}, 32, 16}, Batch{{5, 40}, {30, 30}, 64, 16}, Batch{{5, 40}, {3, 30}, 48, 16}}) {
      OpGraph g;
      std::deque<std::vector<std::byte>> store;
      const NodeId attention = make_step(g, plain(8, 2, 128), b, cache);
      const Value weight = random_weight(g, store, quant::q4_K, 300, 1024);
      const Value y = g.graph.add(VectorMatmul{}, {Value{&g.graph, attention, 0}, std::vector<Value>{weight}})[0];
      const Ports got = run_on_device(g, {attention, y.node}, *backend_, *kernel);
      ASSERT_EQ(got.size(), 1u);
      g.graph.output("y", y);
      States states = g.states;
      const Outputs expected = evaluate(g.graph, g.feeds, states, g.live);
      expect_close(live_values(got[0], g.live), live_values(expected.at("y"), g.live),
                   cache == quant::f16 ? 3e-3 : 1e-2, fmt::format("{} tokens, {} cache", b.capacity, cache.name()));
    }
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

TEST_F(CudaFlash, EveryWidthAndCacheFormat) {
  for (const DType cache : {DType(quant::f32), DType(quant::f16), DType(quant::bf16), DType(quant::q8_0)}) {
    for (const int d : {32, 64, 80, 96, 104, 128, 160, 256}) {
      if (d % cache->block_elems != 0) continue;
      check(plain(8, 2, d), {{0}, {150}, 160, 64}, cache);
      check(plain(2, 2, d), {{200}, {129}, 129, 16}, cache);
    }
  }
}

TEST_F(CudaFlash, LengthsAtTheEdgesOfTiles) {
  for (const int past : {0, 1, 63, 64, 500}) {
    for (const int fed : {1, 16, 63, 65, 127, 128, 129, 300}) {
      check(plain(4, 1, 128), {{past}, {fed}, std::max(fed, 70), 64}, quant::f16);
    }
  }
}

TEST_F(CudaFlash, MasksAndScores) {
  for (const Variant& v : masks_and_scores()) {
    for (const DType cache : {DType(quant::f16), DType(quant::q8_0)}) check(v, {{70}, {200}, 256, 32}, cache);
  }
}

TEST_F(CudaFlash, SeveralSequences) {
  for (const int page : {4, 64}) {
    check(plain(8, 2, 128), {{0, 14, 300, 64}, {90, 1, 33, 140}, 300, page}, quant::f16);
    check(plain(6, 2, 64), {{3, 0, 218, 0}, {1, 7, 20, 70}, 128, page}, quant::bf16);
  }
}

}  // namespace
}  // namespace weft::testing
