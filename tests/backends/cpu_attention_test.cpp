// softmax_context x instruction set x cache format x every variant against its `lower` on ref: paged caches of several
// sequences in shuffled pages, prefill and decode steps against what earlier steps left.
#include "backends/cpu/kernels.h"
#include "ops/quant/all.h"
#include "tests/backends/amx_emulated.h"
#include "tests/backends/attention_steps.h"
#include "tests/backends/cpu_fixture.h"

namespace weft::testing {
namespace {

std::vector<Variant> variants() {
  std::vector<Variant> list;
  const auto add = [&](std::string name, SoftmaxContext op, auto change) {
    Variant v{std::move(name), op};
    change(v);
    list.push_back(std::move(v));
  };
  const auto nothing = [](Variant&) {};
  add("plain", heads(4, 4, 32), nothing);
  add("gqa", heads(6, 2, 64), nothing);
  add("mqa", heads(5, 1, 32), nothing);
  add("rotary half", heads(4, 2, 32), [](Variant& v) {
    v.op.rotary = Rotary::half;
    v.op.rotary_dim = 32;
  });
  add("rotary interleaved, partial", heads(3, 3, 64), [](Variant& v) {
    v.op.rotary = Rotary::interleaved;
    v.op.rotary_dim = 24;
    v.op.rope_theta = 500;
  });
  add("rotary with factors and scale", heads(4, 2, 32), [](Variant& v) {
    v.op.rotary = Rotary::half;
    v.op.rotary_dim = 16;
    v.op.rope_attn_scale = 1.2f;
    v.factors = true;
  });
  add("alibi", heads(6, 6, 32), [](Variant& v) { v.op.alibi = true; });
  add("window", heads(4, 2, 32), [](Variant& v) { v.op.window = 5; });
  add("softcap", heads(4, 2, 32), [](Variant& v) { v.op.softcap = 2; });
  add("sinks", heads(4, 2, 32), [](Variant& v) { v.sinks = true; });
  add("qk norm", heads(4, 2, 32), [](Variant& v) { v.q_norm = true; });
  add("qk norm of the row", heads(4, 2, 32), [](Variant& v) { v.q_norm = v.whole_row = true; });
  add("all", heads(4, 2, 32), [](Variant& v) {
    v.op.rotary = Rotary::half;
    v.op.rotary_dim = 16;
    v.op.alibi = true;
    v.op.alibi_scale = 0.3f;
    v.op.window = 9;
    v.op.softcap = 5;
    v.sinks = v.q_norm = true;
  });
  return list;
}

const std::vector<Batch> kBatches = {
    {{0}, {1}, 1},        {{37}, {1}, 1},     {{0}, {23}, 23},     {{11}, {70}, 80}, {{3, 0, 18, 0}, {1, 7, 1, 0}, 12},
    {{9, 21}, {1, 1}, 2}, {{37}, {1}, 1, 16}, {{70}, {90}, 96, 64}};

/// What rounding a cached value the other way may change.
double cache_tolerance(DType cache) {
  if (cache == quant::f32) return tolerance(Arithmetic::f32);
  return cache == quant::f16 ? 1e-3 : 1e-2;
}

/// Those of this machine, and the tile unit's in plain loops where it has none.
std::vector<const cpu::IsaKernels*> isas() {
  auto list = cpu::supported_isas();
  if (list.front()->matmul_tiles == nullptr && cpu::amx::emulated()) list.push_back(cpu::amx::emulated());
  return list;
}

void check(const Variant& v, const Batch& b, DType cache) {
  OpGraph g;
  const NodeId node = make_step(g, v, b, cache);
  const std::string what =
      fmt::format("{}, {} cache, capacity {}, {} sequences", v.name, cache.name(), b.capacity, b.past.size());
  std::map<std::string, Ports> got;
  const auto run = [&](const Kernel& kernel) {
    for (const int threads : {1, 2, 3}) {
      const auto backend = make_cpu_backend({.threads = threads, .isa = ""});
      Ports ports = CpuRun{backend.get(), &kernel, {node}, {}, 1, 0}.run(g);
      if (threads == 1) {
        got[kernel.name] = std::move(ports);
        continue;
      }
      for (size_t port = 0; port < ports.size(); ++port) {
        EXPECT_EQ(ports[port].bytes, got[kernel.name][port].bytes)
            << what << ": " << kernel.name << " differs at " << threads << " threads";
      }
    }
  };
  for (const cpu::IsaKernels* isa : isas()) {
    run(cpu::softmax_context(*isa, cpu::Products::f32));
    if (isa->matmul_tiles != nullptr && b.capacity >= cpu::kTileProductsTokens)
      run(cpu::softmax_context(*isa, cpu::Products::bf16));
  }
  for (const uint8_t port : {0, 1, 2}) g.graph.output(fmt::format("o{}", port), {&g.graph, node, port});
  States states = g.states;
  const Outputs expected = evaluate(g.graph, g.feeds, states, g.live);
  for (auto& [kernel, ports] : got) {
    const bool half = kernel.find(".bf16.") != std::string::npos;
    for (size_t port = 0; port < ports.size(); ++port) {
      const HostTensor& wanted = expected.at(fmt::format("o{}", port));
      expect_close(live_values(ports[port], g.live), live_values(wanted, g.live),
                   std::max(cache_tolerance(cache), half ? tolerance(Arithmetic::half) : 0),
                   fmt::format("{}: {} output {}", what, kernel, port));
    }
  }
}

TEST(CpuAttention, EveryVariantMatchesItsDefinition) {
  for (const Variant& v : variants()) {
    for (const Batch& b : kBatches) check(v, b, quant::f32);
  }
}

TEST(CpuAttention, EveryCacheFormatMatchesItsDefinition) {
  for (const DType cache : {DType(quant::f16), DType(quant::bf16), DType(quant::q8_0)}) {
    for (const Batch& b : kBatches) {
      check(variants()[1], b, cache);
      check(variants().back(), b, cache);
    }
  }
}

TEST(CpuAttention, OddHeadsAreNotVectors) {
  for (const Batch& b : kBatches) {
    check({"d_head 17", heads(4, 2, 17)}, b, quant::f32);
    check({"d_head 80", heads(3, 1, 80)}, b, quant::f16);
  }
}

TEST(CpuAttention, LargePagesMatchTheirDefinition) {
  for (const DType cache : {DType(quant::f16), DType(quant::bf16)}) {
    check({"seven queries a key", heads(7, 1, 64)}, {{70, 31}, {1, 1}, 2, 32}, cache);
    check({"d_head 96", heads(4, 2, 96)}, {{150, 0}, {1, 2}, 3, 96}, cache);
  }
}

// Decoding a token alone or in one prefill must give the same context: sampling would otherwise depend on batching.
void check_bits(int page, int tokens, DType cache) {
  const Variant v = variants().back();
  for (const cpu::IsaKernels* isa : cpu::supported_isas()) {
    const auto backend = make_cpu_backend({.threads = 2, .isa = isa->name});
    const Kernel* kernel = find_kernel(*backend, fmt::format("softmax_context.{}", isa->name));
    OpGraph whole;
    const NodeId node = make_step(whole, v, {{0}, {tokens}, tokens, page}, cache);
    const Ports all = CpuRun{backend.get(), kernel, {node}, {}, 1, 0}.run(whole);
    // The last token again, against the cache that the whole left.
    OpGraph last;
    const NodeId one = make_step(last, v, {{tokens - 1}, {1}, 1, page}, cache);
    last.states["k"] = all[1];
    last.states["v"] = all[2];
    const Node &n_all = whole.graph.node(node), &n_one = last.graph.node(one);
    const auto feed = [](const OpGraph& g, const Node& n, size_t slot) -> std::string {
      return g.graph.node(n.in[slot].node).as<InputOp>()->label;
    };
    const auto& rows = whole.feeds.at(feed(whole, n_all, 0));
    const size_t bytes = rows.size() / static_cast<size_t>(tokens);
    last.feeds.at(feed(last, n_one, 0)).assign(rows.end() - static_cast<std::ptrdiff_t>(bytes), rows.end());
    for (const size_t slot :
         {SoftmaxContext::kPageTable, SoftmaxContext::kQGamma, SoftmaxContext::kKGamma, SoftmaxContext::kSinks}) {
      last.feeds.at(feed(last, n_one, slot)) = whole.feeds.at(feed(whole, n_all, slot));
    }
    const auto& slots = whole.feeds.at(feed(whole, n_all, SoftmaxContext::kSlots));
    last.feeds.at(feed(last, n_one, SoftmaxContext::kSlots)).assign(slots.end() - 4, slots.end());
    const Ports decoded = CpuRun{backend.get(), kernel, {one}, {}, 1, 0}.run(last);
    const auto a = all[0].values(), b = decoded[0].values();
    EXPECT_EQ(std::vector<float>(a.end() - static_cast<std::ptrdiff_t>(b.size()), a.end()), b)
        << isa->name << ", pages of " << page << ", " << cache.name();
  }
}

// Of pages of 4 keys rows are decoded one by one; those of 16 are vectors of keys; two-byte keys of larger ones are
// turned in pairs, 64 at a time.
TEST(CpuAttention, BitsDependOnNeitherBatchNorTile) {
  check_bits(4, 23, quant::f32);
  check_bits(16, 23, quant::f32);
  for (const DType cache : {DType(quant::f16), DType(quant::bf16), DType(quant::q8_0)}) {
    for (const int page : {8, 32, 64, 96}) check_bits(page, 77, cache);
  }
}

// Ties, subnormals, what rounds to infinity, and none: the cache must hold what the format's own encode gives.
TEST(CpuAttention, CacheIsRoundedAsTheFormatSays) {
  std::vector<float> x;
  for (uint32_t bits = 0; bits < 0xFFFFF000u - 4093; bits += 4093) x.push_back(std::bit_cast<float>(bits));
  for (uint32_t half = 0; half < 0x10000u; half += 3) {  // halfway to the next
    x.push_back(
        std::bit_cast<float>(std::bit_cast<uint32_t>(quant::f16_to_f32(static_cast<uint16_t>(half))) + 0x1000u));
  }
  std::vector<std::byte> expected(x.size() * 2), got(x.size() * 2);
  quant::f16.encode(x.data(), expected.data(), x.size(), nullptr);
  for (const cpu::IsaKernels* isa : cpu::supported_isas()) {
    if (!isa->to_f16) continue;
    isa->to_f16(x.data(), static_cast<int64_t>(x.size()), got.data());
    EXPECT_EQ(got, expected) << isa->name;
  }
}

TEST(CpuAttention, OnlineSoftmaxOfPieces) {
  constexpr float kFactor = 0.125f, kMasked = -std::numeric_limits<float>::infinity();
  std::mt19937 generator(7);
  std::normal_distribution<float> normal(0, 100);
  std::vector<float> scores(100);
  for (float& s : scores) s = normal(generator);
  std::fill_n(scores.begin(), 30, kMasked);  // the first piece sees nothing
  scores[99] = kMasked;
  double largest = kMasked, total = 0;
  for (const float s : scores) largest = std::max(largest, static_cast<double>(s) * kFactor);
  for (const float s : scores) total += std::exp(static_cast<double>(s) * kFactor - largest);
  for (const cpu::IsaKernels* isa : cpu::supported_isas()) {
    float peak = kMasked, sum = 0, keep = 0;
    std::vector<float> weights = scores;
    for (const auto& [first, n] : {std::pair{0, 30}, {30, 7}, {37, 33}, {70, 30}}) {
      isa->online_softmax(weights.data() + first, 0, 1, n, kFactor, &peak, &sum, &keep);
      for (int i = 0; i < first; ++i) weights[static_cast<size_t>(i)] *= keep;
    }
    EXPECT_NEAR(sum, total, 1e-6 * total) << isa->name;
    for (size_t i = 0; i < scores.size(); ++i) {
      EXPECT_NEAR(weights[i], std::exp(static_cast<double>(scores[i]) * kFactor - largest), 1e-6) << isa->name << i;
    }
    std::vector<float> bad(20, std::numeric_limits<float>::quiet_NaN());
    peak = kMasked;
    isa->online_softmax(bad.data(), 0, 1, 20, kFactor, &peak, &sum, &keep);
    EXPECT_TRUE(std::isnan(bad[0]) && std::isnan(bad[19])) << isa->name;
  }
}

}  // namespace
}  // namespace weft::testing
