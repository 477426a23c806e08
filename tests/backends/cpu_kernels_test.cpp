// Every fused op x kernel x instruction set x weight format against its `lower` on ref, at odd sizes, with sentinels
// around what may be written; and bit equality at 1, 2 and 3 threads.
#include "backends/cpu/kernels.h"

#include "ops/all.h"
#include "ops/quant/all.h"
#include "tests/backends/amx_emulated.h"
#include "tests/backends/cpu_fixture.h"

namespace weft::testing {
namespace {

/// A graph whose last nodes are the ones under test.
struct Subject {
  OpGraph g;
  std::deque<std::vector<std::byte>> store;
  std::vector<NodeId> chain;
  std::string kernel;  // without the instruction set
  std::vector<bool> wanted;
  std::vector<double> tolerance;  // by output; empty: what the kernel's arithmetic allows

  std::vector<Value> values() const {
    std::vector<Value> out;
    const Node& last = g.graph.node(chain.back());
    for (size_t port = 0; port < last.out.size(); ++port) {
      out.push_back({const_cast<Graph*>(&g.graph), chain.back(), static_cast<uint8_t>(port)});
    }
    return out;
  }
};

using Make = std::function<void(Subject&)>;

/// Whether the kernel is there and takes the subject's weights.
bool takes(const Subject& subject, const Kernel* kernel) {
  return kernel && !kernel->refuses({.graph = &subject.g.graph, .nodes = subject.chain, .uses = {1, 1}}, DeviceInfo{});
}

/// Against ref, and every thread count against one; in 8 bits and by tiles too where there are such kernels.
void check(const std::string& what, const Make& make) {
  Subject subject;
  make(subject);
  std::map<std::string, Ports> by_kernel;
  const auto run = [&](const Kernel& kernel) {
    Ports first;
    for (const int threads : {1, 2, 3}) {
      const auto backend = make_cpu_backend({.threads = threads, .isa = ""});
      Ports ports = CpuRun{backend.get(), &kernel, subject.chain, subject.wanted, 1, 0}.run(subject.g);
      if (threads == 1) {
        first = std::move(ports);
        continue;
      }
      ASSERT_EQ(ports.size(), first.size());
      for (size_t port = 0; port < ports.size(); ++port) {
        EXPECT_EQ(ports[port].bytes, first[port].bytes)
            << what << ": " << kernel.name << " output " << port << " differs at " << threads << " threads";
      }
    }
    by_kernel[kernel.name] = std::move(first);
  };
  auto isas = cpu::supported_isas();
  if (isas.front()->matmul_tiles == nullptr && cpu::amx::emulated()) isas.push_back(cpu::amx::emulated());
  for (const cpu::IsaKernels* isa : isas) {
    const std::vector<Kernel> kernels = cpu::list_kernels(*isa);
    const Kernel* f32 = find_kernel(kernels, fmt::format("{}.{}", subject.kernel, isa->name));
    ASSERT_NE(f32, nullptr) << subject.kernel << " " << isa->name;
    run(*f32);
    for (const char* kind : {"int8", "bf16"}) {
      const Kernel* kernel = find_kernel(kernels, fmt::format("{}.{}.{}", subject.kernel, kind, isa->name));
      if (takes(subject, kernel)) run(*kernel);
    }
  }
  // Lowering appends to the graph, so it comes last.
  const auto values = subject.values();
  for (size_t port = 0; port < values.size(); ++port) subject.g.graph.output(fmt::format("o{}", port), values[port]);
  States states = subject.g.states;
  const Outputs expected = evaluate(subject.g.graph, subject.g.feeds, states, subject.g.live);
  for (auto& [name, ports] : by_kernel) {
    const bool int8 = name.find(".int8.") != std::string::npos, half = name.find(".bf16.") != std::string::npos;

    for (size_t port = 0; port < values.size(); ++port) {
      if (!subject.wanted.empty() && !subject.wanted[port]) {
        EXPECT_TRUE(ports[port].bytes.empty());
        continue;
      }
      const double exact = subject.tolerance.empty() ? tolerance(Arithmetic::f32) : subject.tolerance[port];
      const double allowed = int8 ? tolerance(Arithmetic::int8) : half ? tolerance(Arithmetic::half) : exact;
      expect_close(live_values(ports[port], subject.g.live),
                   live_values(expected.at(fmt::format("o{}", port)), subject.g.live), allowed,
                   fmt::format("{}: {} output {}", what, name, port));
    }
  }
}

struct Sizes {
  int64_t tokens, live, d, n;
};
const std::vector<Sizes> kSizes = {{1, 1, 64, 96}, {3, 2, 96, 37}, {19, 17, 160, 101}, {70, 67, 32, 113}};

std::string text(const Sizes& s, const TypeTraits& type) {
  return fmt::format("{} T={} live={} D={} N={}", type.name, s.tokens, s.live, s.d, s.n);
}

/// Sizes whose rows are whole blocks of the type.
Sizes fitting(Sizes s, const TypeTraits& type) {
  s.d = (s.d + type.block_elems - 1) / type.block_elems * type.block_elems;
  return s;
}

/// The formats that kernels decode themselves, and one that they leave to its own decode; cpu_matmul_test has them all.
template <typename F>
void for_formats(F f) {
  for (const TypeTraits* type : {&quant::f32, &quant::f16, &quant::bf16, &quant::q8_0, &quant::q4_0}) f(*type);
  for (const TypeTraits* type : quant::kAllTypes) {
    if (type->encode && type->block_elems == 256) return f(*type);
  }
}

TEST(CpuKernels, QkvGemm) {
  for_formats([](const TypeTraits& type) {
    for (const Sizes& size : kSizes) {
      const Sizes s = fitting(size, type);
      for (const NormKind norm : {NormKind::layer, NormKind::rms}) {
        for (const bool want_norm : {true, false}) {
          check(text(s, type), [&](Subject& t) {
            t.kernel = "qkv_gemm";
            t.wanted = {true, want_norm};
            t.g.live.tokens = static_cast<int32_t>(s.live);
            const Value x = t.g.random({s.tokens, s.d}, 1, Rows::tokens);
            const bool beta = norm == NormKind::layer, bias = want_norm;
            const std::vector<Value> w = {random_weight(t.g, t.store, type, s.n, s.d),
                                          random_weight(t.g, t.store, quant::f32, 13, s.d),
                                          random_weight(t.g, t.store, type, 1, s.d)};
            std::vector<Value> b;
            if (bias) b = {t.g.random({s.n}), t.g.random({13}), t.g.random({1})};
            t.chain = {t.g.graph
                           .add(QkvGemm{.norm = norm, .eps = 1e-5f},
                                {x, w, b, t.g.random({s.d}), beta ? t.g.random({s.d}) : Value{}})[0]
                           .node};
          });
        }
      }
    }
  });
}

TEST(CpuKernels, LinearAndVectorMatmul) {
  for_formats([](const TypeTraits& type) {
    for (const Sizes& size : kSizes) {
      const Sizes s = fitting(size, type);
      for (const bool bias : {false, true}) {
        check(text(s, type), [&](Subject& t) {
          t.kernel = "linear";
          t.g.live.tokens = static_cast<int32_t>(s.live);
          const Value x = t.g.random({s.tokens, s.d}, 1, Rows::tokens);
          const std::vector<Value> w = {random_weight(t.g, t.store, type, s.n, s.d),
                                        random_weight(t.g, t.store, quant::bf16, 3, s.d)};
          std::vector<Value> b;
          if (bias) b = {t.g.random({s.n + 3})};
          t.chain = {t.g.graph.add(Linear{}, {x, w, b})[0].node};
        });
      }
      check(text(s, type), [&](Subject& t) {
        t.kernel = "vector_matmul";
        t.g.live.logits = static_cast<int32_t>(s.live);
        const Value x = t.g.random({s.tokens, s.d}, 1, Rows::logits);
        t.chain = {
            t.g.graph.add(VectorMatmul{}, {x, std::vector<Value>{random_weight(t.g, t.store, type, s.n, s.d)}})[0]
                .node};
      });
    }
  });
}

const std::vector<Activation> kMlpActivations = {
    Activation::gelu_tanh,  Activation::gelu_erf,        Activation::relu,           Activation::silu,
    Activation::gated_silu, Activation::gated_gelu_tanh, Activation::gated_gelu_erf, Activation::gated_relu};

/// Row blocks of an MLP's first projection: plain, or up and gate in one block, two, or three that do not meet in the
/// middle.
std::vector<Value> interm(Subject& t, const TypeTraits& type, bool gated, int64_t f, int64_t d, int blocks) {
  const auto weight = [&](DType dtype, int64_t n) { return random_weight(t.g, t.store, dtype, n, d); };
  if (!gated) return {weight(type, f)};
  if (blocks == 1) return {weight(type, 2 * f)};
  if (blocks == 2) return {weight(type, f), weight(quant::f16, f)};
  return {weight(type, f - 5), weight(quant::f32, 11), weight(type, f - 6)};
}

TEST(CpuKernels, GeluGemm) {
  for_formats([](const TypeTraits& type) {
    int blocks = 0;
    for (const Sizes& size : kSizes) {
      const Sizes s = fitting(size, type);
      for (const Activation activation : kMlpActivations) {
        check(fmt::format("{} {}", text(s, type), to_string(activation)), [&](Subject& t) {
          t.kernel = "gelu_gemm";
          t.g.live.tokens = static_cast<int32_t>(s.live);
          const int64_t f = type.block_elems == 256 ? 256 : 96;
          const bool gated = is_gated(activation);
          const Value x = t.g.random({s.tokens, s.d}, 1, Rows::tokens);
          const auto w = interm(t, type, gated, f, s.d, blocks++ % 3 + 1);
          std::vector<Value> bias;
          if (blocks % 2 == 0) bias = {t.g.random({7}), t.g.random({(gated ? 2 : 1) * f - 7})};
          const std::vector<Value> down = {random_weight(t.g, t.store, type, s.n, f)};
          t.chain = {t.g.graph.add(GeluGemm{.activation = activation}, {x, w, bias, down})[0].node};
        });
      }
    }
  });
}

void add_mlp(Subject& t, const TypeTraits& type, const Sizes& s, NormKind norm, Activation activation, int blocks) {
  t.g.live.tokens = static_cast<int32_t>(s.live);
  const int64_t f = type.block_elems == 256 ? 256 : 96;
  const Value x = t.g.random({s.tokens, s.d}, 1, Rows::tokens), residual = t.g.random({s.tokens, s.d}, 1, Rows::tokens);
  const auto w = interm(t, type, is_gated(activation), f, s.d, blocks);
  const bool beta = norm == NormKind::layer && blocks != 2;
  const Value input_bias = blocks == 1 ? Value{} : t.g.random({s.d});
  const Value gamma = t.g.random({s.d}), b = beta ? t.g.random({s.d}) : Value{};
  std::vector<Value> bias;
  if (blocks == 3) bias = {t.g.random({is_gated(activation) ? 2 * f : f})};
  const std::vector<Value> down = {random_weight(t.g, t.store, type, s.d - 1, f),
                                   random_weight(t.g, t.store, quant::f32, 1, f)};
  t.chain = {t.g.graph
                 .add(MlpGemm{.norm = norm, .eps = 1e-5f, .activation = activation},
                      {x, residual, input_bias, gamma, b, w, bias, down})[0]
                 .node};
}

TEST(CpuKernels, MlpGemm) {
  for_formats([](const TypeTraits& type) {
    int blocks = 0;
    for (const Sizes& size : kSizes) {
      const Sizes s = fitting(size, type);
      for (const NormKind norm : {NormKind::layer, NormKind::rms}) {
        for (const Activation activation : {Activation::gelu_erf, Activation::gated_silu}) {
          for (const bool second : {true, false}) {
            check(fmt::format("{} {}", text(s, type), to_string(activation)), [&](Subject& t) {
              t.kernel = "mlp_gemm";
              t.wanted = {true, second};
              add_mlp(t, type, s, norm, activation, blocks++ % 3 + 1);
            });
          }
        }
      }
    }
  });
}

const std::vector<ResidualAdd> kResiduals = {{true, true, 1}, {true, true, 3}, {true, false, 1}, {false, true, 2}};

TEST(CpuKernels, MlpGemmWithResidualAdd) {
  for (const ResidualAdd& op : kResiduals) {
    for (const Sizes& s : kSizes) {
      check(fmt::format("{} {}", text(s, quant::q8_0), op.mlp_after_attn), [&](Subject& t) {
        t.kernel = "mlp_gemm.residual_add";
        add_mlp(t, quant::q8_0, s, NormKind::rms, Activation::gated_silu, 2);
        const Value hidden{&t.g.graph, t.chain[0], 0};
        const Value residual = t.g.random({s.tokens, s.d}, 1, Rows::tokens);
        const Value attention = t.g.random({s.tokens, s.d}, 1, Rows::tokens);
        t.chain.push_back(
            t.g.graph.add(op, {hidden, residual, attention, t.g.random({s.d}), t.g.random({s.d})})[0].node);
      });
    }
  }
}

TEST(CpuKernels, ResidualAdd) {
  struct Extents {
    int64_t tokens, live, d;
  };
  for (const ResidualAdd& op : kResiduals) {
    for (const bool all : {true, false}) {
      for (const Extents& s : {Extents{1, 1, 37}, Extents{7, 5, 1031}}) {
        check(fmt::format("T={} D={}", s.tokens, s.d), [&](Subject& t) {
          t.kernel = "residual_add";
          t.g.live.tokens = static_cast<int32_t>(s.live);
          const auto rows = [&] { return t.g.random({s.tokens, s.d}, 1, Rows::tokens); };
          const auto maybe = [&](Value v) { return all ? v : Value{}; };
          t.chain = {
              t.g.graph.add(op, {rows(), rows(), maybe(rows()), maybe(t.g.random({s.d})), maybe(t.g.random({s.d}))})[0]
                  .node};
        });
      }
    }
  }
}

TEST(CpuKernels, Norms) {
  for (const Shape& shape : {Shape{1, 64}, Shape{5, 37}, Shape{3, 7, 13}, Shape{17, 1}}) {
    for (const bool beta : {true, false}) {
      check(to_string(shape), [&](Subject& t) {
        t.kernel = "layer_norm";
        t.g.live.tokens = 3;
        const Value x = t.g.random(shape, 3, Rows::tokens);
        t.chain = {
            t.g.graph.add(LayerNorm{}, {x, t.g.random({shape[-1]}), beta ? t.g.random({shape[-1]}) : Value{}})[0].node};
      });
    }
    check(to_string(shape), [&](Subject& t) {
      t.kernel = "rms_norm";
      const Value x = t.g.random(shape, 3);
      t.chain = {t.g.graph.add(RmsNorm{}, {x, t.g.random({shape[-1]})})[0].node};
    });
  }
}

TEST(CpuKernels, Embedding) {
  for_formats([](const TypeTraits& type) {
    for (const bool positions : {true, false}) {
      check(std::string(type.name), [&](Subject& t) {
        t.kernel = "embedding";
        const int64_t d = type.block_elems == 256 ? 256 : 96;
        t.g.live.tokens = 5;
        const Value ids = t.g.i32({7}, {3, 0, 16, -1, 17, 999, 2}, Rows::tokens);
        const Value table = random_weight(t.g, t.store, type, 17, d);
        const Value at = t.g.i32({7}, {0, 1, 9, 2, 3, 4, 5}, Rows::tokens);
        const Value position_table = random_weight(t.g, t.store, type, 11, d);
        t.chain = {t.g.graph
                       .add(Embedding{.position_offset = 2, .scale = 1.5f},
                            {ids, table, positions ? at : Value{}, positions ? position_table : Value{}})[0]
                       .node};
      });
    }
  });
}

/// Scores far enough apart that rounding cannot change who is picked.
TEST(CpuKernels, MoeRoute) {
  for_formats([](const TypeTraits& type) {
    for (const Sizes& size : kSizes) {
      const Sizes s = fitting(size, type);
      for (const Gating gating : {Gating::softmax_topk_renorm, Gating::softmax_topk, Gating::topk_softmax}) {
        check(text(s, type), [&](Subject& t) {
          t.kernel = "moe_route";
          t.g.live.tokens = static_cast<int32_t>(s.live);
          const std::vector<Value> w = {random_weight(t.g, t.store, type, s.n, s.d)};
          const bool bias = gating == Gating::topk_softmax;
          t.chain = {t.g.graph
                         .add(MoeRoute{.gating = gating, .experts_per_token = 4},
                              {t.g.random({s.tokens, s.d}, 1, Rows::tokens), w, bias ? t.g.random({s.n}) : Value{}})[0]
                         .node};
        });
      }
    }
  });
}

Value random_experts(Subject& t, const TypeTraits& type, int64_t experts, int64_t n, int64_t k) {
  random_weight(t.g, t.store, type, experts * n, k);
  const TensorType shape{type, {experts, n, k}, Rows::all};
  return t.g.graph.weight(fmt::format("e{}", t.store.size()), {shape, t.store.back().data(), nullptr});
}

// Experts nobody picked, picked once and by all; a pick out of range counts for nothing.
TEST(CpuKernels, MoeExperts) {
  for_formats([](const TypeTraits& type) {
    for (const Sizes& size : kSizes) {
      const Sizes s = fitting(size, type);
      for (const Activation activation : {Activation::gated_silu, Activation::gated_swiglu_clamped}) {
        check(text(s, type), [&](Subject& t) {
          t.kernel = "moe_experts";
          t.g.live.tokens = static_cast<int32_t>(s.live);
          const int64_t experts = 5, f = s.d;
          std::vector<int32_t> ids;
          for (int i = 0; i < s.tokens; ++i) ids.insert(ids.end(), {3, i % 2 == 0 ? 0 : 1, i == 0 ? 4 : 9});
          const auto bias = [&](int64_t n) {
            return activation == Activation::gated_swiglu_clamped ? t.g.random({experts, n}) : Value{};
          };
          t.chain = {t.g.graph
                         .add(MoeExperts{.activation = activation},
                              {t.g.random({s.tokens, s.d}, 1, Rows::tokens), t.g.i32({s.tokens, 3}, ids, Rows::tokens),
                               t.g.random({s.tokens, 3}, 1, Rows::tokens), random_experts(t, type, experts, f, s.d),
                               random_experts(t, type, experts, f, s.d), random_experts(t, type, experts, s.d, f),
                               bias(f), bias(f), bias(s.d)})[0]
                         .node};
        });
      }
    }
  });
}

TEST(CpuKernels, BarriersAreFew) {
  const auto backend = make_cpu_backend({.threads = 2, .isa = ""});
  const auto barriers = [&](int64_t tokens, const std::string& name, const Make& make) {
    Subject t;
    (void)tokens;
    make(t);
    const Kernel* kernel = find_kernel(*backend, fmt::format("{}.{}", name, cpu::choose_isa("").name));
    CpuRun run{backend.get(), kernel, t.chain, {}, 1, 0};
    run.run(t.g);
    return run.n_barriers;
  };
  const auto mlp = [](int64_t tokens) {
    return [tokens](Subject& t) {
      add_mlp(t, quant::q8_0, {tokens, tokens, 64, 0}, NormKind::rms, Activation::gated_silu, 2);
    };
  };
  EXPECT_EQ(barriers(1, "mlp_gemm", mlp(1)), 1) << "between the projections; the norm is recomputed";
  EXPECT_EQ(barriers(64, "mlp_gemm", mlp(64)), 2) << "and after the norm";
}

}  // namespace
}  // namespace weft::testing
