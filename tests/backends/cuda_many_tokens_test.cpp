// Products of many tokens, by cuBLASLt: biases and the residual stream that it adds or that a kernel adds, row blocks
// that begin wherever, rows that pass what f16 holds. Held row by row, since those are larger than the others.
#include "ops/quant/all.h"
#include "tests/backends/cuda_kernels.h"

namespace weft::testing {
namespace {

constexpr double kWithin = 5e-3;  // of the largest of a row: f16 activations and weights

class CudaManyTokens : public CudaKernels {
 protected:
  void check_rows(OpGraph& g, const std::vector<NodeId>& ids, std::string_view name, const std::string& what) {
    const Kernel* kernel = find_kernel(*backend_, name);
    ASSERT_NE(kernel, nullptr) << name;
    const size_t n_ports = g.graph.node(ids.back()).out.size();
    const Ports got = run_on_device(g, ids, *backend_, *kernel);
    ASSERT_EQ(got.size(), n_ports);
    for (uint8_t port = 0; port < n_ports; ++port) {
      g.graph.output(fmt::format("o{}", port), {&g.graph, ids.back(), port});
    }
    States states = g.states;
    const Outputs expected = evaluate(g.graph, g.feeds, states, g.live);
    for (size_t port = 0; port < n_ports; ++port) {
      const auto here = live_values(got[port], g.live),
                 there = live_values(expected.at(fmt::format("o{}", port)), g.live);
      ASSERT_EQ(here.size(), there.size());
      const auto n = static_cast<size_t>(got[port].type.shape[1]);
      for (size_t at = 0; at < there.size(); at += n) {
        const auto row = [&](const std::vector<float>& all) {
          return std::vector<float>(all.begin() + static_cast<ptrdiff_t>(at),
                                    all.begin() + static_cast<ptrdiff_t>(at + n));
        };
        expect_close(row(here), row(there), kWithin, fmt::format("{} {}: output {}, row {}", name, what, port, at / n));
      }
    }
  }
};

/// Rows of very different sizes, every third of which f16 has no room for.
Value uneven_rows(OpGraph& g, int64_t tokens, int64_t d, float large) {
  std::vector<float> x = g.random_values(tokens * d);
  for (int64_t i = 0; i < tokens * d; ++i) {
    if (i / d % 3 == 1) x[static_cast<size_t>(i)] *= large;
  }
  return g.f32({tokens, d}, x, Rows::tokens);
}

TEST_F(CudaManyTokens, BiasesOfRowBlocksThatBeginAnywhere) {
  const std::vector<std::vector<int64_t>> cuts = {{256}, {61, 5, 130, 64}, {64, 192}, {3, 253}, {16, 1, 47}};
  for (const std::vector<int64_t>& rows : cuts) {
    for (const int with_bias : {0, 1, 2}) {  // none, one vector, one a block
      for (const float large : {1.0f, 1e6f}) {
        for (const DType type : {DType(quant::f16), DType(quant::q8_0)}) {
          OpGraph g;
          std::deque<std::vector<std::byte>> store;
          constexpr int64_t kTokens = 70, kColumns = 320;
          g.live.tokens = 65;
          const Value x = uneven_rows(g, kTokens, kColumns, large);
          std::vector<Value> weights, biases;
          int64_t all = 0;
          for (const int64_t n : rows) {
            weights.push_back(random_weight(g, store, type, n, kColumns));
            if (with_bias == 2) biases.push_back(g.random({n}, 5));
            all += n;
          }
          if (with_bias == 1) biases.push_back(g.random({all}, 5));
          const Value y = linear(x, weights, biases);
          check_rows(g, {y.node}, "linear.half",
                     fmt::format("{}, {} blocks of {} rows, bias {}, rows up to {}", type.name(), rows.size(), all,
                                 with_bias, large));
        }
      }
    }
  }
}

TEST_F(CudaManyTokens, QkvWithItsBias) {
  for (const NormKind norm : {NormKind::layer, NormKind::rms}) {
    for (const float gain : {1.0f, 1e5f}) {  // of gamma: the other passes f16's range
      OpGraph g;
      std::deque<std::vector<std::byte>> store;
      constexpr int64_t kTokens = 33, kColumns = 256, kRows = 384;
      g.live.tokens = 30;
      const Value x = uneven_rows(g, kTokens, kColumns, 100);
      QkvGemm op;
      op.norm = norm;
      const Value beta = norm == NormKind::layer ? g.random({kColumns}) : Value{};
      const auto out = g.graph.add(op, {x, std::vector<Value>{random_weight(g, store, quant::q4_K, kRows, kColumns)},
                                        std::vector<Value>{g.random({kRows}, 3)}, g.random({kColumns}, gain), beta});
      check_rows(g, {out[0].node}, "qkv_gemm.half", fmt::format("gain {}", gain));
    }
  }
}

/// How a layer ends, after its MLP.
enum class LayerEnd : uint8_t { sequential, biased, shared_by_two, other_terms, post_norm };

void check_end(LayerEnd end, NormKind norm, Activation activation, float gain, auto check_rows) {
  OpGraph g;
  std::deque<std::vector<std::byte>> store;
  constexpr int64_t kTokens = 40, kColumns = 256, kInterm = 512;
  g.live.tokens = 37;
  // Tiny rows stay small through the norm's eps, so that not all rows pass f16's range.
  const auto stream = [&] { return uneven_rows(g, kTokens, kColumns, 1e-4f); };
  const auto weight = [&](int64_t n, int64_t k) {
    return std::vector<Value>{random_weight(g, store, quant::q8_0, n, k)};
  };
  const bool biased = end == LayerEnd::biased, gated = is_gated(activation);
  const Value attention = stream(), x = stream(), attention_bias = biased ? g.random({kColumns}) : Value{};
  const Value gamma = g.random({kColumns}, gain), beta = norm == NormKind::layer ? g.random({kColumns}) : Value{};
  const int64_t wide = gated ? 2 * kInterm : kInterm;
  MlpGemm op;
  op.norm = norm;
  op.activation = activation;
  const auto mlp = g.graph.add(
      op, {attention, x, attention_bias, gamma, beta, weight(wide, kColumns),
           biased ? std::vector<Value>{g.random({wide})} : std::vector<Value>{}, weight(kColumns, kInterm)});
  const Value final_bias = biased ? g.random({kColumns}, 4) : Value{};
  const Value y = end == LayerEnd::other_terms
                      ? g.graph.add(ResidualAdd{}, {mlp[0], attention, x, Value{}, g.random({kColumns})})[0]
                  : end == LayerEnd::post_norm
                      ? g.graph.add(ResidualAdd{.pre_layer_norm = false}, {mlp[0], x, Value{}, Value{}, final_bias})[0]
                      : g.graph.add(ResidualAdd{.mp_size = end == LayerEnd::shared_by_two ? 2 : 1},
                                    {mlp[0], x, attention, attention_bias, final_bias})[0];
  check_rows(g, std::vector{mlp[0].node, y.node},
             fmt::format("end {}, {}, gain {}", static_cast<int>(end), gated ? "gated" : "plain", gain));
}

TEST_F(CudaManyTokens, TheEndOfALayer) {
  const auto rows = [&](OpGraph& g, const std::vector<NodeId>& ids, const std::string& what) {
    check_rows(g, ids, "mlp_gemm+residual_add.half", what);
  };
  for (const LayerEnd end :
       {LayerEnd::sequential, LayerEnd::biased, LayerEnd::shared_by_two, LayerEnd::other_terms, LayerEnd::post_norm}) {
    for (const NormKind norm : {NormKind::layer, NormKind::rms}) {
      for (const Activation activation : {Activation::gelu_tanh, Activation::gated_silu}) {
        for (const float gain : {1.0f, 300.0f, 1e5f}) check_end(end, norm, activation, gain, rows);
      }
    }
  }
}

}  // namespace
}  // namespace weft::testing
