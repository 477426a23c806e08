// The matrix product every projection is made of: each instruction set x format x shape against f64, and its invariant,
// that an element's bits depend on nothing but its row and token.
#include "backends/cpu/matmul.h"

#include <random>

#include "backends/cpu/isa.h"
#include "ops/quant/all.h"
#include "tests/backends/cpu_fixture.h"

namespace weft::cpu {
namespace {

using testing::Guarded;

struct Case {
  std::vector<float> x, w;  // w: as decoded
  std::vector<std::byte> bytes;
  int64_t t, n, k;
  Tensor weight;

  Case(DType dtype, int64_t tokens, int64_t rows, int64_t columns) : t(tokens), n(rows), k(columns) {
    std::mt19937 generator(static_cast<unsigned>(t * 7919 + n * 31 + k));
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& values, int64_t size) {
      values.resize(static_cast<size_t>(size));
      for (float& value : values) value = normal(generator);
    };
    fill(x, t * k);
    fill(w, n * k);
    const TensorType type{dtype, {n, k}, Rows::all};
    bytes.resize(type.bytes());
    for (int64_t r = 0; r < n; ++r) {
      std::byte* row = bytes.data() + static_cast<size_t>(r) * type.row_bytes();
      dtype->encode(w.data() + r * k, row, static_cast<size_t>(k), nullptr);
      dtype->decode(row, w.data() + r * k, static_cast<size_t>(k));
    }
    weight = {type, bytes.data(), nullptr};
  }

  std::vector<float> expected() const {
    std::vector<float> out;
    for (int64_t i = 0; i < t; ++i) {
      for (int64_t r = 0; r < n; ++r) {
        double sum = 0;
        for (int64_t c = 0; c < k; ++c) {
          sum += static_cast<double>(x[static_cast<size_t>(i * k + c)]) *
                 static_cast<double>(w[static_cast<size_t>(r * k + c)]);
        }
        out.push_back(static_cast<float>(sum));
      }
    }
    return out;
  }

  /// Rows [first, last) for tokens [t0, t1), into out [t, n].
  void multiply(const IsaKernels& isa, int64_t first, int64_t last, int64_t t0, int64_t t1, float* out) const {
    Guarded scratch(kMatmulScratch);
    const Tensor blocks[] = {weight};
    Weights(blocks).multiply(isa, first, last, {x.data() + t0 * k, k}, t1 - t0, out + t0 * n + first, n,
                             scratch.data());
    EXPECT_TRUE(scratch.intact()) << "wrote beyond its scratch";
  }
};

const std::vector<std::array<int64_t, 3>> kShapes = {{1, 1, 1},     {1, 13, 31},  {2, 7, 33},
                                                     {1, 48, 64},   {3, 50, 96},  {5, 17, 800},
                                                     {65, 49, 768}, {67, 61, 17}, {9, 100, 1600}};

TEST(CpuMatmul, MatchesDoubleInEveryFormat) {
  for (const IsaKernels* isa : supported_isas()) {
    for (const TypeTraits* type : quant::kAllTypes) {
      if (!type->encode) continue;
      for (auto [t, n, k] : kShapes) {
        k = (k + type->block_elems - 1) / type->block_elems * type->block_elems;
        const Case c(*type, t, n, k);
        Guarded out(static_cast<size_t>(t * n) * sizeof(float));
        auto* y = reinterpret_cast<float*>(out.data());
        c.multiply(*isa, 0, n, 0, t, y);
        EXPECT_TRUE(out.intact());
        testing::expect_close({y, y + t * n}, c.expected(), 2e-6,
                              fmt::format("{} {} {}x{}x{}", isa->name, type->name, t, n, k),
                              std::sqrt(static_cast<double>(k)));
      }
    }
  }
}

TEST(CpuMatmul, BitsDependOnNeitherTileNorTokens) {
  for (const IsaKernels* isa : supported_isas()) {
    for (const TypeTraits* type : quant::kAllTypes) {
      if (!type->encode) continue;
      for (const int64_t k : {768, 1792, 33}) {
        if (k % type->block_elems != 0) continue;
        const int64_t t = 70, n = 61;
        const Case c(*type, t, n, k);
        std::vector<float> whole(static_cast<size_t>(t * n)), one_by_one(whole), split(whole);
        c.multiply(*isa, 0, n, 0, t, whole.data());
        for (int64_t i = 0; i < t; ++i) c.multiply(*isa, 0, n, i, i + 1, one_by_one.data());
        for (int64_t r = 0; r < n; r += 7) c.multiply(*isa, r, std::min(r + 7, n), 0, t, split.data());
        EXPECT_EQ(whole, one_by_one) << isa->name << " " << type->name << " k=" << k << ": GEMV and GEMM differ";
        EXPECT_EQ(whole, split) << isa->name << " " << type->name << " k=" << k << ": tiles differ";
      }
    }
  }
}

// A format the kernels do not know goes through its own decode, and must give the same bits as the ones they do.
TEST(CpuMatmul, UnknownFormatsAreDecodedByTheirOwn) {
  for (const IsaKernels* isa : supported_isas()) {
    for (const TypeTraits* type : quant::kAllTypes) {
      if (!type->encode) continue;
      TypeTraits stranger = *type;
      stranger.id = 9999;
      Case c(*type, 3, 29, 832);
      std::vector<float> known(3 * 29), unknown(known);
      c.multiply(*isa, 0, 29, 0, 3, known.data());
      c.weight.type.dtype = stranger;
      c.multiply(*isa, 0, 29, 0, 3, unknown.data());
      EXPECT_EQ(known, unknown) << isa->name << " " << type->name;
    }
  }
}

TEST(CpuMatmul, HalfPrecisionIsDecodedExactly) {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  for (const IsaKernels* isa : supported_isas()) {
    for (const auto& [type, format] : {std::pair{&quant::f16, Format::f16}, {&quant::bf16, Format::bf16}}) {
      std::vector<float> got(halves.size()), expected(halves.size());
      const auto* data = reinterpret_cast<const std::byte*>(halves.data());
      isa->decode({data, 0, format, 1, 2, type->decode}, got.data(), 65536);
      type->decode(data, expected.data(), expected.size());
      for (size_t i = 0; i < got.size(); ++i) {
        if (std::isnan(expected[i])) {
          ASSERT_TRUE(std::isnan(got[i])) << isa->name << " " << type->name << " " << i;
        } else {
          ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i])) << isa->name << " " << i;
        }
      }
    }
  }
  for (size_t i = 0; i < 65536; ++i) {
    const float expected = quant::f16_to_f32(static_cast<uint16_t>(i));
    if (!std::isnan(expected)) {
      ASSERT_EQ(std::bit_cast<uint32_t>(kF16.values[i]), std::bit_cast<uint32_t>(expected));
    }
  }
}

double gelu_erf(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}
double silu(double x) { return x / (1 + std::exp(-x)); }
double relu(double x) { return x > 0 ? x : 0; }

TEST(CpuMath, ActivationsMatchDouble) {
  std::vector<float> x;
  for (float v = -20; v < 20; v += 0.0037f) x.push_back(v);
  for (const float v : {0.0f, -0.0f, 1e-30f, -1e-30f, 100.0f, -100.0f, 1e4f, -1e4f}) x.push_back(v);
  const std::vector<std::pair<Act, double (*)(double)>> acts = {
      {Act::gelu_erf, gelu_erf}, {Act::gelu_tanh, gelu_tanh}, {Act::silu, silu}, {Act::relu, relu}};
  for (const IsaKernels* isa : supported_isas()) {
    for (const auto& [act, exact] : acts) {
      std::vector<float> y = x;
      isa->activate(act, y.data(), static_cast<int64_t>(y.size()));
      for (size_t i = 0; i < x.size(); ++i) {
        const double expected = exact(static_cast<double>(x[i]));
        ASSERT_NEAR(y[i], expected, 1e-6 * std::max(1.0, std::abs(expected)) * 0.5)
            << isa->name << " act " << static_cast<int>(act) << " of " << x[i];
      }
    }
  }
}

TEST(CpuMath, ExponentialsMatchDouble) {
  for (const IsaKernels* isa : supported_isas()) {
    std::vector<float> s;
    for (float v = -80; v <= 0; v += 0.0131f) s.push_back(v);
    s.push_back(-std::numeric_limits<float>::infinity());
    const std::vector<float> before = s;
    const float sum = isa->exp_sum(s.data(), 0, static_cast<int64_t>(s.size()));
    double expected_sum = 0;
    for (size_t i = 0; i < s.size(); ++i) {
      const double expected = std::exp(static_cast<double>(before[i]));
      expected_sum += expected;
      ASSERT_NEAR(s[i], expected, 2.5e-7 * expected) << isa->name << " exp(" << before[i] << ")";
    }
    EXPECT_EQ(s.back(), 0);
    EXPECT_NEAR(sum, expected_sum, 1e-6 * expected_sum);
  }
}

TEST(CpuIsa, CalibrationMeasuresSomething) {
  const auto backend = make_cpu_backend({.threads = 2, .isa = ""});
  backend->calibrate(0, 1 << 20);
  const DeviceInfo& device = backend->devices()[0];
  EXPECT_GT(device.bandwidth_gbps, 0.01);
  EXPECT_GT(device.gflops, 0.1);
  EXPECT_EQ(device.int8_gops > 0, choose_isa("").matmul_packed != nullptr);
  EXPECT_EQ(device.rate(Arithmetic::f32), device.gflops);
  EXPECT_NE(backend->devices()[0].description.find("2 threads"), std::string::npos);
}

// A probe that skips part of what it claims to read reports a bandwidth that is not there.
TEST(CpuIsa, ProbesDoWhatTheyCount) {
  for (const IsaKernels* isa : supported_isas()) {
    const std::vector<float> data(100'000, 1.0f);
    EXPECT_NEAR(isa->read_all(data.data(), 100'000, 512), 100'000, 200) << isa->name << ": but for an end";
    EXPECT_EQ(isa->multiply_add(10), 2.0 * isa->lanes * 12 * 10) << isa->name;
    if (isa->dot_bytes == nullptr) continue;
    EXPECT_EQ(isa->dot_bytes(10), 2.0 * 4 * isa->lanes * 12 * 10) << isa->name;
  }
}

TEST(CpuIsa, AskingForWhatIsNotThereIsAnError) {
  EXPECT_ERROR(choose_isa("avx1024"), "'avx1024' was asked for, this machine has");
  EXPECT_EQ(std::string_view(choose_isa("sse2").name), "sse2");
  EXPECT_ERROR(make_cpu_backend({.threads = 1, .isa = "neon"}), "neon");
}

}  // namespace
}  // namespace weft::cpu
