#include "ops/softmax_context.h"

#include <optional>

#include "ops/quant/all.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

/// One row of q, k or v heads and the optional inputs, as numbers.
struct Options {
  SoftmaxContext op{.n_head = 4, .n_kv_head = 2, .d_head = 4, .scale = 0.5f};
  std::vector<float> q_gamma = {}, k_gamma = {}, factors = {}, sinks = {};
};

/// A batch as data: which tokens of which sequences this step feeds.
struct Batch {
  struct Token {
    int sequence, position;
  };
  std::vector<Token> tokens;
  int capacity = 0, sequences = 0;
};

constexpr int kPage = 3, kPagesEach = 3;

/// Attention from its definition, in f64, over whole sequences: row t of `qkv[s]` is token t of sequence s.
std::vector<double> expected_context(const Options& options, const std::vector<std::vector<float>>& qkv, int s, int t) {
  const SoftmaxContext& op = options.op;
  const int d = op.d_head, width = (op.n_head + 2 * op.n_kv_head) * d;
  const auto row = [&](int at, int head, int heads, const std::vector<float>& gamma, bool turns, int offset) {
    const float* all = &qkv[static_cast<size_t>(s)][static_cast<size_t>(at * width + offset)];
    std::vector<double> x(static_cast<size_t>(d));
    const bool whole = static_cast<int>(gamma.size()) == heads * d && heads > 1;
    double squares = 0;
    for (int i = 0; i < (whole ? heads * d : d); ++i) {
      const double value = all[whole ? i : head * d + i];
      squares += value * value;
    }
    const double rms = std::sqrt(squares / (whole ? heads * d : d) + op.qk_norm_eps);
    for (int i = 0; i < d; ++i) {
      x[static_cast<size_t>(i)] = all[head * d + i];
      if (!gamma.empty()) x[static_cast<size_t>(i)] *= gamma[static_cast<size_t>(whole ? head * d + i : i)] / rms;
    }
    if (!turns || op.rotary == Rotary::none) return x;
    for (int i = 0; i < op.rotary_dim / 2; ++i) {
      double angle = at * std::pow(static_cast<double>(op.rope_theta), -2.0 * i / op.rotary_dim);
      if (!options.factors.empty()) angle /= options.factors[static_cast<size_t>(i)];
      const auto first = static_cast<size_t>(op.rotary == Rotary::half ? i : 2 * i);
      const auto second = static_cast<size_t>(op.rotary == Rotary::half ? i + op.rotary_dim / 2 : 2 * i + 1);
      const double a = x[first], b = x[second];
      const double c = std::cos(angle) * op.rope_attn_scale, sn = std::sin(angle) * op.rope_attn_scale;
      x[first] = a * c - b * sn;
      x[second] = b * c + a * sn;
    }
    return x;
  };
  std::vector<double> context;
  const auto slopes = alibi_slopes(op.n_head, static_cast<double>(op.alibi_scale));
  for (int h = 0; h < op.n_head; ++h) {
    const int kv = h / (op.n_head / op.n_kv_head);
    const auto q = row(t, h, op.n_head, options.q_gamma, true, 0);
    double total = options.sinks.empty() ? 0 : std::exp(static_cast<double>(options.sinks[static_cast<size_t>(h)]));
    std::vector<double> sum(static_cast<size_t>(d), 0.0);
    for (int j = 0; j <= t; ++j) {
      if (op.window > 0 && t - j >= op.window) continue;
      const auto k = row(j, kv, op.n_kv_head, options.k_gamma, true, op.n_head * d);
      const auto v = row(j, kv, op.n_kv_head, {}, false, (op.n_head + op.n_kv_head) * d);
      double score = 0;
      for (size_t i = 0; i < q.size(); ++i) score += q[i] * k[i];
      score *= op.scale;
      if (op.softcap > 0) score = op.softcap * std::tanh(score / op.softcap);
      if (op.alibi) score += slopes[static_cast<size_t>(h)] * (j - t);
      total += std::exp(score);
      for (size_t i = 0; i < v.size(); ++i) sum[i] += std::exp(score) * v[i];
    }
    for (const double value : sum) context.push_back(value / total);
  }
  return context;
}

/// Feeds batches step by step to the lowered op and compares every live row.
class SoftmaxContextTest : public ::testing::Test {
 protected:
  static constexpr int kSequences = 3;

  void check(const Options& options, DType cache = quant::f32, std::optional<int64_t> tile_bytes = {},
             double tolerance = 2e-6) {
    const SoftmaxContext& op = options.op;
    const int width = (op.n_head + 2 * op.n_kv_head) * op.d_head;
    // Prompts of two sequences, a third joins, one is left out; capacities leave dead rows.
    const std::vector<Batch> steps = {
        {{{0, 0}, {0, 1}, {0, 2}, {0, 3}, {1, 0}, {1, 1}}, 8, kSequences},
        {{{0, 4}, {2, 0}, {2, 1}, {2, 2}, {2, 3}, {2, 4}, {2, 5}}, 7, kSequences},
        {{{0, 5}, {1, 2}, {2, 6}}, 5, kSequences},
    };
    OpGraph source;
    std::vector<std::vector<float>> qkv;
    for (int s = 0; s < kSequences; ++s) qkv.push_back(source.random_values(int64_t{kPage * kPagesEach} * width));
    testing::States states;
    std::vector<int32_t> lengths(kSequences, 0);
    for (const Batch& batch : steps) {
      OpGraph g;
      g.states = std::move(states);
      g.live.tokens = static_cast<int32_t>(batch.tokens.size());
      const std::vector<float> got = run(g, options, batch, qkv, lengths, cache, tile_bytes);
      const auto row = static_cast<size_t>(op.n_head * op.d_head);
      for (size_t t = 0; t < batch.tokens.size(); ++t) {
        const auto wanted = expected_context(options, qkv, batch.tokens[t].sequence, batch.tokens[t].position);
        expect_near({got.begin() + static_cast<std::ptrdiff_t>(t * row),
                     got.begin() + static_cast<std::ptrdiff_t>((t + 1) * row)},
                    {wanted.begin(), wanted.end()}, tolerance);
      }
      states = std::move(g.states);
    }
  }

 private:
  static std::vector<float> run(OpGraph& g, const Options& options, const Batch& batch,
                                const std::vector<std::vector<float>>& qkv, std::vector<int32_t>& lengths, DType cache,
                                std::optional<int64_t> tile_bytes) {
    const SoftmaxContext& op = options.op;
    const int64_t width = (op.n_head + 2 * op.n_kv_head) * op.d_head, t = batch.capacity;
    std::vector<float> rows;
    std::vector<int32_t> positions, slots, ids, starts(kSequences + 1, 0), table;
    for (int s = 0; s < kSequences; ++s) {
      for (int m = 0; m < kPagesEach; ++m) table.push_back((m * kSequences + s + 4) % (kSequences * kPagesEach));
    }
    for (const auto& [s, p] : batch.tokens) {
      const auto* from = &qkv[static_cast<size_t>(s)][static_cast<size_t>(p * width)];
      rows.insert(rows.end(), from, from + width);
      positions.push_back(p);
      slots.push_back(table[static_cast<size_t>(s * kPagesEach + p / kPage)] * kPage + p % kPage);
      ids.push_back(s);
      for (int later = s + 1; later <= kSequences; ++later) ++starts[static_cast<size_t>(later)];
      lengths[static_cast<size_t>(s)] = p + 1;
    }
    const auto maybe = [&](const std::vector<float>& values) {
      return values.empty() ? Value{} : g.f32({static_cast<int64_t>(values.size())}, values);
    };
    const TensorType pages{cache, {kSequences * kPagesEach, op.n_kv_head, kPage, op.d_head}};
    const Values in = {g.f32({t, width}, rows, Rows::tokens),
                       g.graph.state("k", pages),
                       g.graph.state("v", pages),
                       g.i32({t}, positions, Rows::tokens),
                       g.i32({t}, slots, Rows::tokens),
                       g.i32({t}, ids, Rows::tokens),
                       g.i32({kSequences + 1}, starts),
                       g.i32({kSequences}, lengths),
                       g.i32({kSequences, kPagesEach}, table),
                       maybe(options.q_gamma),
                       maybe(options.k_gamma),
                       maybe(options.factors),
                       maybe(options.sinks)};
    const auto out = tile_bytes ? op.lower_within(in, *tile_bytes) : build(op, in);
    EXPECT_EQ(out[0].type(), f32_type({t, op.n_head * op.d_head}, Rows::tokens));
    EXPECT_EQ(out[1].type(), pages);
    return g.run(out[0]);
  }
};

TEST_F(SoftmaxContextTest, SequencesOfDifferentLength) { check({}); }

TEST_F(SoftmaxContextTest, HeadsSharingKeys) {
  check({.op = {.n_head = 4, .n_kv_head = 4, .d_head = 4, .scale = 0.5f}});
  check({.op = {.n_head = 6, .n_kv_head = 1, .d_head = 4, .scale = 0.5f}});
}

TEST_F(SoftmaxContextTest, RotaryStyles) {
  Options options;
  options.op.rotary = Rotary::half;
  options.op.rotary_dim = 4;
  check(options);
  options.op.rotary = Rotary::interleaved;
  check(options);
  options.op.rotary_dim = 2;
  check(options);
  options.op.rotary_dim = 4;
  options.op.rope_attn_scale = 1.25f;
  options.factors = {1, 4};
  check(options);
}

TEST_F(SoftmaxContextTest, NormOfEachHeadAndOfTheRow) {
  Options options{.q_gamma = {1, 2, 0.5f, 1.5f}, .k_gamma = {0.5f, 1, 1, 2}};
  options.op.qk_norm_eps = 1e-5f;
  check(options);
  OpGraph random;
  options.q_gamma = random.random_values(16);
  options.k_gamma = random.random_values(8);
  check(options);
}

TEST_F(SoftmaxContextTest, MasksAndScores) {
  Options options;
  options.op.window = 3;
  check(options);
  options.sinks = {0.5f, -1, 2, 0};
  check(options);
  options.op.window = 0;
  options.op.alibi = true;
  check(options);
  options.op.alibi_scale = 0.4f;
  check(options);
  options.op.softcap = 0.75f;
  check(options);
}

TEST_F(SoftmaxContextTest, CacheTypes) {
  check({}, quant::f16, {}, 2e-3);
  check({}, quant::bf16, {}, 2e-2);
  check({.op = {.n_head = 2, .n_kv_head = 1, .d_head = 32, .scale = 0.2f}}, quant::q8_0, {}, 2e-2);
}

TEST_F(SoftmaxContextTest, TilesOfHeadsAndQueriesGiveTheSame) {
  Options options{.sinks = {0.5f, -1, 2, 0}};
  options.op.alibi = true;
  const int64_t query_bytes = 2 * 3 * kPage * kPagesEach * 4;  // scores of the two heads of one kv head
  for (const int64_t bytes : {query_bytes * 8, query_bytes * 3, int64_t{1}}) check(options, quant::f32, bytes);
}

TEST_F(SoftmaxContextTest, ScoresStayWithinTheTile) {
  Graph graph;
  const int64_t t = 512, pages = 64, page = 64;
  const auto i32 = [&](const char* name, Shape shape) { return graph.input(name, i32_type(shape)); };
  const TensorType cache = f32_type({pages, 8, page, 64});
  const SoftmaxContext op{.n_head = 32, .n_kv_head = 8, .d_head = 64};
  graph.add(op, {graph.input("qkv", f32_type({t, 48 * 64})), graph.state("k", cache), graph.state("v", cache),
                 i32("positions", {t}), i32("slots", {t}), i32("ids", {t}), i32("starts", {2}), i32("lengths", {1}),
                 i32("table", {1, pages})});
  const Node node = graph.node(graph.size() - 1);
  const NodeId first = graph.size();
  node.op->lower(node.attrs.get(), node.in);
  size_t largest = 0;
  for (NodeId id = first; id < graph.size(); ++id) largest = std::max(largest, graph.node(id).out[0].bytes());
  EXPECT_LE(largest, static_cast<size_t>(kScoreTileBytes)) << "whole scores would take 256 MiB";
}

TEST(SoftmaxContextRows, AQueryThatSeesNothingGivesZero) {
  OpGraph g;
  const TensorType cache = f32_type({1, 1, 2, 1});
  const Values in = {g.f32({1, 3}, {1, 2, 3}), g.graph.state("k", cache), g.graph.state("v", cache),
                     g.i32({1}, {0}),          g.i32({1}, {-1}),          g.i32({1}, {0}),
                     g.i32({2}, {0, 1}),       g.i32({1}, {0}),           g.i32({1, 1}, {0})};
  expect_near(g.run(build(SoftmaxContext{}, in)[0]), {0});
}

TEST(SoftmaxContextErrors, SayWhatWasGiven) {
  OpGraph g;
  const auto with = [&](SoftmaxContext op, int64_t width, Shape cache, Value q_gamma) {
    const Value pages = g.graph.input(fmt::format("pages{}", g.graph.size()), f32_type(cache));
    const Value per_token = g.i32({2}, {});
    return build(op, {g.random({2, width}), pages, pages, per_token, per_token, per_token, g.i32({2}, {}),
                      g.i32({1}, {}), g.i32({1, 4}, {}), q_gamma});
  };
  const SoftmaxContext op{.n_head = 4, .n_kv_head = 2, .d_head = 8};
  EXPECT_ERROR(with(op, 60, {4, 2, 4, 8}, {}), "qkv has 60 columns, 4 heads and 2 x 2 kv heads of 8 need 64");
  EXPECT_ERROR(with(op, 64, {4, 4, 4, 8}, {}), "k_cache must be [pages, 2, page, 8], given f32[4, 4, 4, 8]");
  EXPECT_ERROR(with(op, 64, {4, 2, 4, 8}, g.random({9})),
               "q_gamma has 9 elements, a head has 8 and the row of heads 32");
  EXPECT_ERROR(with({.n_head = 4, .n_kv_head = 3}, 10, {4, 3, 4, 1}, {}), "4 heads cannot share 3 kv heads evenly");
  EXPECT_ERROR(
      with({.n_head = 4, .n_kv_head = 2, .d_head = 8, .rotary = Rotary::half, .rotary_dim = 10}, 64, {4, 2, 4, 8}, {}),
      "rotary_dim must be even and at most 8, given 10");
}

TEST(SoftmaxContextCost, ReadsTheCacheOnceForEachSequence) {
  const TensorType cache = f32_type({64, 2, 16, 8});
  const Types in = {f32_type({4, 64}, Rows::tokens),
                    cache,
                    cache,
                    i32_type({4}),
                    i32_type({4}),
                    i32_type({4}),
                    i32_type({3}),
                    i32_type({2}),
                    i32_type({2, 8})};
  const SoftmaxContext op{.n_head = 4, .n_kv_head = 2, .d_head = 8};
  const Cost cost = op.cost(in, op.infer(in), {.tokens = 2, .sequences = 2, .kv_length = 100});
  EXPECT_EQ(cost.weight_bytes, 2 * 2 * 100 * 2 * 8 * 4);
  SoftmaxContext narrow = op;
  narrow.window = 10;
  EXPECT_EQ(narrow.cost(in, op.infer(in), {.tokens = 2, .sequences = 2, .kv_length = 100}).weight_bytes,
            cost.weight_bytes / 10);
}

}  // namespace
}  // namespace weft
