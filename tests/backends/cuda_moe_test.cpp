// Routers and experts on a GPU against their `lower` on ref: every weight format, types mixed, one token and many, all
// tokens at one expert, experts nobody picked, picks out of range, rows that fill warps and that do not.
#include "graph/passes/passes.h"
#include "graph/runner.h"
#include "ops/all.h"
#include "ops/quant/all.h"
#include "tests/backends/cuda_kernels.h"

namespace weft::testing {
namespace {

class CudaMoe : public CudaKernels {
 protected:
  Value experts(OpGraph& g, const TypeTraits& type, int64_t n_experts, int64_t n, int64_t k) {
    random_weight(g, store_, type, n_experts * n, k);
    const TensorType shape{type, {n_experts, n, k}, Rows::all};
    return g.graph.weight(fmt::format("e{}", store_.size()), {shape, store_.back().data(), nullptr});
  }

  struct Sizes {
    int64_t tokens, live, d, f;
  };
  struct Case {
    Sizes size;
    std::vector<int32_t> ids;  // of a token; token t's are moved on by t, if `spread`
    bool spread = false;
    Activation activation = Activation::gated_silu;
    bool biases = false;
    int64_t n_experts = 5;
  };

  bool check_experts(std::string_view products, const TypeTraits& up, const TypeTraits& down, const Case& c,
                     double within) {
    const auto [tokens, live, d, f] = c.size;
    OpGraph g;
    g.live.tokens = static_cast<int32_t>(live);
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < tokens; ++t) {
      for (const int32_t id : c.ids) {
        ids.push_back(c.spread ? static_cast<int32_t>((id + t * 3) % c.n_experts) : id);
      }
    }
    const auto picks = static_cast<int64_t>(c.ids.size());
    const auto bias = [&](int64_t n) { return c.biases ? g.random({c.n_experts, n}) : Value{}; };
    const NodeId id =
        g.graph
            .add(MoeExperts{.activation = c.activation, .limit = 2},
                 {g.random({tokens, d}, 1, Rows::tokens), g.i32({tokens, picks}, ids, Rows::tokens),
                  g.random({tokens, picks}, 1, Rows::tokens), experts(g, up, c.n_experts, f, d),
                  experts(g, up, c.n_experts, f, d), experts(g, down, c.n_experts, d, f), bias(f), bias(f), bias(d)})[0]
            .node;
    const std::string what = fmt::format("{} and {}, {} of {} tokens, {} picks of {}, {} x {}", up.name, down.name,
                                         live, tokens, picks, c.n_experts, d, f);
    return check(fmt::format("moe_experts.{}", products), what, g, id, within);
  }

  static double within(const TypeTraits& up, const TypeTraits& down) {
    return tolerance(up.block_elems == 1 && down.block_elems == 1 ? Arithmetic::f32 : Arithmetic::int8);
  }
  /// By the kernel of few picks.
  bool check_few(const TypeTraits& up, const TypeTraits& down, const Case& c) {
    const bool plain = up.block_elems == 1 && down.block_elems == 1;
    return check_experts(plain ? "gemv" : "int8", up, down, c, within(up, down));
  }

  std::deque<std::vector<std::byte>> store_;
};

constexpr std::array kGatingsHere = {Gating::softmax_topk_renorm, Gating::softmax_topk, Gating::topk_softmax};

TEST_F(CudaMoe, Routes) {
  struct Route {
    int64_t tokens, live, experts, d;
    int picks;
  };
  int n = 0;
  for (const TypeTraits* type : {&quant::f32, &quant::f16, &quant::bf16}) {
    for (const Gating gating : kGatingsHere) {
      for (const Route& r : {Route{1, 1, 8, 4096, 2}, Route{1, 1, 128, 2048, 8}, Route{1, 1, 3, 37, 3},
                             Route{1, 1, 1, 64, 1}, Route{5, 4, 32, 2880, 4}, Route{64, 64, 60, 130, 4},
                             Route{65, 65, 61, 256, 4}, Route{200, 66, 130, 131, 8}, Route{70, 70, 500, 64, 10}}) {
        OpGraph g;
        g.live.tokens = static_cast<int32_t>(r.live);
        const Value x = g.random({r.tokens, r.d}, 1, Rows::tokens);
        const Value w = random_weight(g, store_, *type, r.experts, r.d);
        const Value bias = gating == Gating::topk_softmax ? g.random({r.experts}) : Value{};
        const MoeRoute op{.gating = gating, .experts_per_token = r.picks};
        n += check("moe_route.f32",
                   fmt::format("{}, {} of {} tokens, {} of {} experts, {}", type->name, r.live, r.tokens, r.picks,
                               r.experts, to_string(gating)),
                   g, g.graph.add(op, {x, std::vector{w}, bias})[0].node, 1e-5);
      }
    }
  }
  EXPECT_EQ(n, 3 * 3 * 9);
}

// Equal logits: the lower id first. Router rows in several blocks.
TEST_F(CudaMoe, RoutesTies) {
  for (const int64_t tokens : {1, 7, 80}) {
    for (const Gating gating : kGatingsHere) {
      OpGraph g;
      g.live.tokens = static_cast<int32_t>(tokens);
      const int64_t d = 96;
      std::vector<float> row(static_cast<size_t>(40 * d), 0.0f);
      for (size_t e : {3u, 17u, 30u}) std::fill_n(row.begin() + static_cast<ptrdiff_t>(e * d), d, 0.25f);
      const auto block = [&](size_t first, int64_t n) {
        store_.emplace_back(static_cast<size_t>(n * d) * sizeof(float));
        std::memcpy(store_.back().data(), row.data() + first * static_cast<size_t>(d), store_.back().size());
        return g.graph.weight(fmt::format("w{}", store_.size()), {f32_type({n, d}), store_.back().data(), nullptr});
      };
      const Value x = g.f32({tokens, d}, std::vector<float>(static_cast<size_t>(tokens * d), 0.5f), Rows::tokens);
      const MoeRoute op{.gating = gating, .experts_per_token = 5};
      EXPECT_TRUE(check("moe_route.f32", fmt::format("ties, {} tokens", tokens), g,
                        g.graph.add(op, {x, std::vector{block(0, 18), block(18, 22)}, Value{}})[0].node, 1e-5));
    }
  }
}

TEST_F(CudaMoe, ExpertsOfEveryFormat) {
  int n_types = 0;
  for (const TypeTraits* type : quant::kAllTypes) {
    if (!type->encode) continue;
    int n = 0;
    for (const Sizes& s : {Sizes{1, 1, 256, 512}, Sizes{1, 1, 768, 256}, Sizes{3, 2, 512, 768}, Sizes{1, 1, 2304, 256},
                           Sizes{1, 1, 96, 1440}, Sizes{1, 1, 32, 40}}) {
      const auto e = static_cast<int64_t>(type->block_elems);
      if (s.d % e != 0 || s.f % e != 0) continue;
      n += check_few(*type, *type, {.size = s, .ids = {3, 0, 4}, .biases = s.tokens == 1});
    }
    n_types += n > 0;
  }
  EXPECT_EQ(n_types, 14) << "f32, f16, bf16, q4_0 to q8_0, q4_K to q6_K, iq4_nl, iq4_xs, mxfp4";
}

TEST_F(CudaMoe, ExpertsOfMixedTypes) {
  EXPECT_TRUE(check_few(quant::q4_K, quant::q6_K, {.size = {2, 2, 256, 512}, .ids = {1, 2}}));
  EXPECT_TRUE(check_few(quant::f16, quant::q8_0, {.size = {2, 2, 64, 96}, .ids = {1, 2}}));
  EXPECT_TRUE(check_few(quant::mxfp4, quant::bf16, {.size = {1, 1, 64, 96}, .ids = {1, 2}}));
}

// Experts nobody picked, picked once and by all; a pick out of range counts for nothing, also with a bias.
TEST_F(CudaMoe, ExpertsPickedByAllAndByNone) {
  for (const TypeTraits* type : {&quant::f32, &quant::f16, &quant::q8_0, &quant::mxfp4}) {
    for (const Activation activation :
         {Activation::gated_silu, Activation::gated_swiglu_clamped, Activation::gated_gelu_tanh,
          Activation::gated_gelu_erf, Activation::gated_relu}) {
      for (const bool biases : {false, true}) {
        for (const Sizes& s : {Sizes{1, 1, 64, 32}, Sizes{9, 6, 64, 96}}) {
          for (const std::vector<int32_t>& ids : {std::vector<int32_t>{2}, {3, 0, 9}, {-1, 4}, {2, 2, 2, 2}}) {
            EXPECT_TRUE(check_few(*type, *type, {.size = s, .ids = ids, .activation = activation, .biases = biases}));
          }
        }
      }
    }
  }
}

// More rows than warps, more picks than SMs, and as many picks of a token as there may be.
TEST_F(CudaMoe, ManyRowsAndPicks) {
  for (const TypeTraits* type : {&quant::f16, &quant::q4_0, &quant::q4_K, &quant::q6_K}) {
    const Case one{.size = {1, 1, 256, 4608}, .ids = {1, 4}};
    const Case many{.size = {40, 40, 512, 256}, .ids = {0, 5, 9, 2, 7, 8}, .spread = true, .n_experts = 11};
    std::vector<int32_t> all(32);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i * 5 % 33);
    const Case most{.size = {2, 2, 5120, 256}, .ids = all, .biases = true, .n_experts = 33};
    for (const Case& c : {one, many, most}) EXPECT_TRUE(check_few(*type, *type, c)) << type->name;
  }
}

// Picks by expert, in tiles that fill and that do not.
TEST_F(CudaMoe, GroupedExpertsOfEveryFormat) {
  int n_types = 0;
  for (const TypeTraits* type : quant::kAllTypes) {
    if (!type->encode) continue;
    int n = 0;
    for (const Case& c : {Case{.size = {66, 66, 256, 512}, .ids = {0, 2, 3}, .spread = true, .n_experts = 7},
                          Case{.size = {150, 131, 768, 256}, .ids = {1, 3}, .spread = true, .n_experts = 4},
                          Case{.size = {30, 30, 96, 160}, .ids = {3, 0, 4}, .biases = true},
                          Case{.size = {70, 70, 40, 72}, .ids = {0}, .spread = true}}) {
      const auto e = static_cast<int64_t>(type->block_elems);
      if (c.size.d % e != 0 || c.size.f % e != 0) continue;
      n += check_experts("half", *type, *type, c, tolerance(Arithmetic::half));
    }
    n_types += n > 0;
  }
  EXPECT_EQ(n_types, 13) << "f16, bf16, q4_0 to q8_0, q4_K to q6_K, iq4_nl, iq4_xs, mxfp4";
  EXPECT_TRUE(check_experts("half", quant::q4_K, quant::q6_K,
                            {.size = {80, 80, 512, 256}, .ids = {4, 1}, .spread = true}, tolerance(Arithmetic::half)));
  EXPECT_TRUE(check_experts("half", quant::f16, quant::q8_0, {.size = {80, 80, 512, 288}, .ids = {4}, .spread = true},
                            tolerance(Arithmetic::half)));
}

// All tokens at the same experts, picks out of range, more experts than the sorting block has threads.
TEST_F(CudaMoe, GroupedExpertsPickedByAllAndByNone) {
  for (const Activation activation : {Activation::gated_silu, Activation::gated_swiglu_clamped,
                                      Activation::gated_gelu_tanh, Activation::gated_relu}) {
    for (const bool biases : {false, true}) {
      for (const std::vector<int32_t>& ids : {std::vector<int32_t>{2}, {3, 9, 0}, {-1, 4}, {2, 2, 2, 2}}) {
        EXPECT_TRUE(check_experts("half", quant::q8_0, quant::mxfp4,
                                  {.size = {100, 97, 64, 96}, .ids = ids, .activation = activation, .biases = biases},
                                  tolerance(Arithmetic::half)));
      }
    }
  }
  EXPECT_TRUE(check_experts("half", quant::q8_0, quant::q8_0,
                            {.size = {130, 130, 32, 64}, .ids = {7, 1400}, .spread = true, .n_experts = 1500},
                            tolerance(Arithmetic::half)));
  EXPECT_TRUE(check_experts("half", quant::q4_0, quant::q4_0,
                            {.size = {300, 300, 288, 1056}, .ids = {0, 7, 20, 31}, .spread = true, .n_experts = 32},
                            tolerance(Arithmetic::half)));
}

// A router and its experts in one graph: the experts' kernel begins while the router's runs.
TEST_F(CudaMoe, ARouterAndItsExperts) {
  for (const TypeTraits* type : {&quant::f16, &quant::q4_K}) {
    for (const int64_t tokens : {1, 6, 50}) {
      OpGraph g;
      g.live.tokens = static_cast<int32_t>(tokens);
      const int64_t d = 512, f = 256, n = 16;
      const Value x = rms_norm(g.random({tokens, d}, 1, Rows::tokens), g.random({d}), 1e-5f);
      const auto route = g.graph.add(MoeRoute{.experts_per_token = 4},
                                     {x, std::vector{random_weight(g, store_, quant::f32, n, d)}, Value{}});
      const Value y = g.graph.add(MoeExperts{}, {x, route[0], route[1], experts(g, *type, n, f, d),
                                                 experts(g, *type, n, f, d), experts(g, *type, n, d, f)})[0];
      g.graph.output("y", y);
      std::vector<std::unique_ptr<Backend>> backends;
      backends.push_back(load_cuda_backend());
      Runtime runtime(Env{}, std::move(backends));
      Memory memory;
      Runner runner(compile(g.graph, runtime.devices("cuda")), runtime, memory);
      for (const auto& [name, bytes] : g.feeds) runner.write(name, bytes.data(), bytes.size());
      std::vector<float> got(static_cast<size_t>(tokens * d));
      for (int i = 0; i < 3; ++i) runner.run({.tokens = tokens, .logits = 1});
      runner.read("y", got.data(), got.size() * sizeof(float));
      States states = g.states;
      const auto expected = live_values(evaluate(g.graph, g.feeds, states, g.live).at("y"), g.live);
      expect_close(got, expected, tolerance(Arithmetic::int8), fmt::format("{}, {} tokens", type->name, tokens));
    }
  }
}

}  // namespace
}  // namespace weft::testing
