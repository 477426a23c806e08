// Products of few tokens on a GPU against their `lower` on ref: every weight format, tokens at the edges of tiles and
// passes, rows and columns that fill blocks and that do not, rows that several blocks share.
#include "ops/quant/all.h"
#include "tests/backends/cuda_kernels.h"

namespace weft::testing {
namespace {

struct Size {
  int64_t tokens, rows, k;
};

class CudaProducts : public CudaKernels {
 protected:
  int check_matmul(const TypeTraits& type, Size s, int64_t live = 0) {
    const std::string what = fmt::format("{}, {} tokens ({} live), {} x {}", type.name, s.tokens, live, s.rows, s.k);
    return check(
        "vector_matmul.skinny", what,
        [&](OpGraph& g, auto& store) {
          g.live.tokens = static_cast<int32_t>(live > 0 ? live : s.tokens);
          const Value x = g.random({s.tokens, s.k}, 1, Rows::tokens);
          return g.graph.add(VectorMatmul{}, {x, std::vector<Value>{random_weight(g, store, type, s.rows, s.k)}})[0]
              .node;
        },
        2e-3);
  }
};

TEST_F(CudaProducts, EveryFormat) {
  int n_types = 0;
  for (const TypeTraits* type : quant::kAllTypes) {
    if (!type->encode || type->block_elems == 1) continue;
    int n = 0;
    for (const Size& s : {Size{2, 40, 256}, Size{7, 130, 1280}, Size{8, 700, 512}, Size{9, 129, 768}, Size{16, 8, 512},
                          Size{20, 333, 1024}, Size{32, 300, 2304}, Size{33, 70, 512}, Size{64, 257, 256}}) {
      n += check_matmul(*type, s);
    }
    if (type->block_elems == 32) {
      for (const Size& s : {Size{5, 50, 288}, Size{32, 33, 1600}}) check_matmul(*type, s);  // no whole panels
    }
    n_types += n > 0;
  }
  EXPECT_EQ(n_types, 11) << "q4_0 to q8_0, q4_K to q6_K, iq4_nl, iq4_xs, mxfp4";
}

// Rows and columns that fill chunks and warps and that do not; rows whose planes begin within 16 bytes.
TEST_F(CudaProducts, OneTokenOfEveryFormat) {
  int n_int8 = 0, n_plain = 0;
  for (const TypeTraits* type : quant::kAllTypes) {
    if (!type->encode) continue;
    const bool plain = type->block_elems == 1;
    int n = 0;
    for (const Size& s :
         {Size{1, 40, 256}, Size{1, 5000, 768}, Size{1, 37, 288}, Size{1, 3, 4096}, Size{1, 300, 8448}}) {
      if (s.k % static_cast<int64_t>(type->block_elems) != 0) continue;
      const std::string what = fmt::format("{}, {} x {}", type->name, s.rows, s.k);
      n += check(
          plain ? "vector_matmul.gemv" : "vector_matmul.int8", what,
          [&](OpGraph& g, auto& store) {
            g.live.tokens = 1;
            const Value x = g.random({1, s.k}, 1, Rows::tokens);
            return g.graph.add(VectorMatmul{}, {x, std::vector<Value>{random_weight(g, store, *type, s.rows, s.k)}})[0]
                .node;
          },
          tolerance(plain ? Arithmetic::f32 : Arithmetic::int8));
    }
    (plain ? n_plain : n_int8) += n > 0;
  }
  EXPECT_EQ(n_int8, 11) << "q4_0 to q8_0, q4_K to q6_K, iq4_nl, iq4_xs, mxfp4";
  EXPECT_EQ(n_plain, 3) << "f32, f16, bf16";
}

// The logits' product of one token begins with the last norm.
TEST_F(CudaProducts, ALinearThatBeginsWithItsNorm) {
  int n = 0;
  for (const TypeTraits* type : {&quant::f32, &quant::f16, &quant::q8_0, &quant::q4_K, &quant::q6_K}) {
    const std::string_view products = type->block_elems == 1 ? "gemv" : "int8";
    for (const bool rms : {true, false}) {
      for (const Size& s : {Size{1, 61, 256}, Size{1, 5003, 768}, Size{1, 2, 4096}}) {
        OpGraph g;
        std::deque<std::vector<std::byte>> store;
        g.live.tokens = 1;
        const Value x = g.random({1, s.k}, 3, Rows::tokens), gamma = g.random({s.k}), beta = g.random({s.k});
        const Value h = rms ? rms_norm(x, gamma, 1e-5f) : layer_norm(x, gamma, beta, 1e-5f);
        const Value weight = random_weight(g, store, *type, s.rows, s.k);
        const Value y = linear(h, {weight}, rms ? std::vector<Value>{} : std::vector{g.random({s.rows})});
        const Kernel* kernel =
            find_kernel(*backend_, fmt::format("{}_norm+linear.{}", rms ? "rms" : "layer", products));
        ASSERT_NE(kernel, nullptr);
        check_chain(g, h, y, *kernel, fmt::format("{} of {} x {}", type->name, s.rows, s.k));
        ++n;
      }
    }
  }
  EXPECT_EQ(n, 30);
}

TEST_F(CudaProducts, ANormOfSeveralTokensIsAKernelOfItsOwn) {
  OpGraph g;
  std::deque<std::vector<std::byte>> store;
  const Value h = rms_norm(g.random({2, 256}, 1, Rows::tokens), g.random({256}), 1e-5f);
  const Value y = linear(h, {random_weight(g, store, quant::q8_0, 8, 256)}, {});
  const Kernel* kernel = find_kernel(*backend_, "rms_norm+linear.int8");
  ASSERT_NE(kernel, nullptr);
  EXPECT_TRUE(kernel->refuses({.graph = &g.graph, .nodes = {h.node, y.node}, .uses = {1}}, backend_->devices()[0]));
}

TEST_F(CudaProducts, MorePanelsThanBlocks) {
  for (const int64_t tokens : {3, 12, 32}) {
    check_matmul(quant::q8_0, {tokens, 40000, 256});
    check_matmul(quant::q6_K, {tokens, 4000, 2304});
    check_matmul(quant::q4_K, {tokens, 1100, 14336});
  }
}

TEST_F(CudaProducts, FewerLiveTokensThanThePlanHas) {
  for (const int64_t live : {1, 5, 8, 11, 31}) check_matmul(quant::q4_K, {32, 200, 1024}, live);
}

// Blocks that meet where a task's rows do, and elsewhere.
TEST_F(CudaProducts, RowBlocksAndBiases) {
  for (const auto& [rows, more] : {std::pair<int64_t, int64_t>{384, 128}, {300, 7}}) {
    const int64_t first = rows, second = more;  // clang 14 captures no bindings
    for (const int64_t tokens : {2, 8, 31}) {
      const auto make = [&](OpGraph& g, auto& store) {
        g.live.tokens = static_cast<int32_t>(tokens);
        const int64_t d = 512;
        const auto w = [&](DType type, int64_t n) { return random_weight(g, store, type, n, d); };
        const Value x = g.random({tokens, d}, 1, Rows::tokens), gamma = g.random({d});
        const Value bias = g.random({first + second + 61 + 5});
        QkvGemm op;
        op.norm = NormKind::rms;
        const std::vector<Value> weights = {w(quant::q4_K, first), w(quant::q4_K, second), w(quant::q6_K, 61),
                                            w(quant::q6_K, 5)};
        return g.graph.add(op, {x, weights, std::vector<Value>{bias}, gamma, Value{}})[0].node;
      };
      EXPECT_EQ(check("qkv_gemm.skinny", fmt::format("{} tokens, {} and {} rows", tokens, first, second), make), 1);
    }
  }
}

TEST_F(CudaProducts, MlpWithAndWithoutAGate) {
  for (const auto activation : {Activation::gelu_tanh, Activation::gated_silu}) {
    for (const int64_t tokens : {2, 8, 9, 32, 40}) {
      for (const DType type : {DType(quant::q4_K), DType(quant::q8_0)}) {
        check("mlp_gemm.skinny", fmt::format("{}, {} tokens", type.name(), tokens), [&](OpGraph& g, auto& store) {
          g.live.tokens = static_cast<int32_t>(tokens);
          const int64_t d = 512, f = 1280;
          const auto w = [&](int64_t n, int64_t k) { return std::vector<Value>{random_weight(g, store, type, n, k)}; };
          const Value x = g.random({tokens, d}, 1, Rows::tokens), residual = g.random({tokens, d}, 1, Rows::tokens);
          MlpGemm op;
          op.norm = NormKind::rms;
          op.activation = activation;
          return g.graph
              .add(op, {x, residual, Value{}, g.random({d}), Value{}, w(is_gated(activation) ? 2 * f : f, d),
                        std::vector<Value>{}, w(d, f)})[0]
              .node;
        });
      }
    }
  }
}

// Down weights of two types are two launches, each with its part of what is added.
TEST_F(CudaProducts, MlpAndResidualOfTwoTypes) {
  for (const int64_t tokens : {1, 5}) {
    const std::string_view name = tokens == 1 ? "mlp_gemm+residual_add.int8" : "mlp_gemm+residual_add.skinny";
    const Kernel* kernel = find_kernel(*backend_, name);
    ASSERT_NE(kernel, nullptr) << name;
    OpGraph g;
    std::deque<std::vector<std::byte>> store;
    g.live.tokens = static_cast<int32_t>(tokens);
    const int64_t d = 512, f = 1280;
    const Value x = g.random({tokens, d}, 1, Rows::tokens), residual = g.random({tokens, d}, 1, Rows::tokens);
    const auto w = [&](DType type, int64_t n, int64_t k) { return random_weight(g, store, type, n, k); };
    const std::vector<Value> down = {w(quant::q4_K, 320, f), w(quant::q6_K, 192, f)};
    MlpGemm op;
    op.norm = NormKind::rms;
    op.activation = Activation::silu;
    const std::vector<Value> up = {w(quant::q4_K, f, d)};
    const Value out =
        g.graph.add(op, {x, residual, Value{}, g.random({d}), Value{}, up, std::vector<Value>{}, down})[0];
    const Value more = g.random({tokens, d}, 1, Rows::tokens), bias = g.random({d});
    const Value y = g.graph.add(ResidualAdd{}, {out, more, more, Value{}, bias})[0];
    check_chain(g, out, y, *kernel, fmt::format("{} tokens", tokens));
  }
}

// Between the two products rows pass what f16 holds, some of them or all.
TEST_F(CudaProducts, MlpWithRowsOutOfRange) {
  for (const int64_t tokens : {5, 16, 30, 40}) {
    for (const bool all : {false, true}) {
      check("gelu_gemm.skinny", fmt::format("{} tokens, large", tokens), [&](OpGraph& g, auto& store) {
        g.live.tokens = static_cast<int32_t>(tokens);
        const int64_t d = 512, f = 1280;
        const auto w = [&](int64_t n, int64_t k) {
          return std::vector<Value>{random_weight(g, store, quant::q4_K, n, k)};
        };
        std::vector<float> x = g.random_values(tokens * d);
        for (int64_t i = 0; i < tokens * d; ++i) {
          if (all || i / d % 3 == 1) x[static_cast<size_t>(i)] *= 100;
        }
        return g.graph
            .add(GeluGemm{.activation = Activation::gated_silu},
                 {g.f32({tokens, d}, x, Rows::tokens), w(2 * f, d), std::vector<Value>{}, w(d, f)})[0]
            .node;
      });
    }
  }
}

// Parts of columns that the blocks of a cluster add up, of a few rows and of many; gated ones too.
TEST_F(CudaProducts, PartsOfColumns) {
  for (const int64_t tokens : {3, 8, 12, 32}) {
    for (const Size& s : {Size{tokens, 1024, 2048}, Size{tokens, 1030, 1280}, Size{tokens, 300, 1792},
                          Size{tokens, 520, 512}, Size{tokens, 200, 2560}, Size{tokens, 130, 8192}}) {
      check_matmul(quant::q4_K, s);
    }
    if (tokens == 32) check_matmul(quant::q4_K, {tokens, 4096, 2048});  // more clusters than an H100 has room for
    check("gelu_gemm.skinny", fmt::format("{} tokens, parts", tokens), [&](OpGraph& g, auto& store) {
      g.live.tokens = static_cast<int32_t>(tokens);
      const auto w = [&](int64_t n, int64_t k) {
        return std::vector<Value>{random_weight(g, store, quant::q4_K, n, k)};
      };
      const Value x = g.random({tokens, 1536}, 0.1f, Rows::tokens);
      return g.graph
          .add(GeluGemm{.activation = Activation::gated_silu},
               {x, w(2 * 512, 1536), std::vector<Value>{}, w(260, 512)})[0]
          .node;
    });
  }
}

}  // namespace
}  // namespace weft::testing
