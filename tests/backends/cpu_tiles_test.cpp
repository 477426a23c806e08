// Products by tiles, with the tile unit emulated: every format, edges of every kind, against f64.
#include <array>
#include <cmath>
#include <random>

#include "backends/cpu/kernels.h"
#include "backends/cpu/matmul.h"
#include "ops/quant/all.h"
#include "ops/quant/rows16.h"
#include "tests/backends/amx_emulated.h"
#include "tests/backends/cpu_fixture.h"

namespace weft::cpu {
namespace {

float bf16(float x) {
  std::array<std::byte, 2> bits{};
  quant::bf16.encode(&x, bits.data(), 1, nullptr);
  quant::bf16.decode(bits.data(), &x, 1);
  return x;
}

/// Rows [first, last) of blocks of so many rows each, times t tokens, against the sums of the same bf16 values in f64.
void check(const IsaKernels& isa, const TypeTraits& type, bool pack, int64_t t, const std::vector<int64_t>& block_rows,
           int64_t k, int64_t first, int64_t last) {
  std::mt19937 generator(static_cast<unsigned>(t * 7919 + k));
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(t * k)), w;
  for (float& value : x) value = normal(generator);
  std::deque<std::vector<std::byte>> store;
  std::vector<Tensor> blocks;
  for (const int64_t rows : block_rows) {
    const TensorType shape{type, {rows, k}, Rows::all};
    auto& bytes = store.emplace_back(shape.bytes());
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t r = 0; r < rows; ++r) {
      for (float& value : row) value = normal(generator);
      std::byte* const to = bytes.data() + static_cast<size_t>(r) * shape.row_bytes();
      type.encode(row.data(), to, static_cast<size_t>(k), nullptr);
      type.decode(to, row.data(), static_cast<size_t>(k));
      w.insert(w.end(), row.begin(), row.end());
    }
    Tensor block{shape, bytes.data(), nullptr};
    if (const Layout* layout = pack ? quant::rows16(shape) : nullptr) {
      auto& packed = store.emplace_back(layout->bytes(shape));
      layout->pack(block, packed.data(), 0, rows);
      block = {shape, packed.data(), layout};
    }
    blocks.push_back(block);
  }
  const Weights weights(blocks);
  const int64_t capacity = std::max(t, kTileProductsTokens);
  testing::Guarded workspace(Quantizer::workspace_bytes(Products::bf16, capacity, k)), scratch(kPanelScratch);
  const Quantizer quantizer(isa, weights, Products::bf16, capacity, workspace.data());
  quantizer.rows(x.data(), k, 0, t);
  const int64_t n = last - first;
  testing::Guarded out(static_cast<size_t>(t * n) * sizeof(float));
  auto* const y = reinterpret_cast<float*>(out.data());
  weights.multiply(isa, first, last, quantizer(x.data(), k, t, nullptr, true), t, y, n, scratch.data());
  EXPECT_TRUE(workspace.intact() && scratch.intact() && out.intact()) << type.name << " wrote beyond its memory";

  std::vector<float> expected;
  for (int64_t i = 0; i < t; ++i) {
    for (int64_t r = first; r < last; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < k; ++c) {
        sum += double{bf16(x[static_cast<size_t>(i * k + c)])} * double{bf16(w[static_cast<size_t>(r * k + c)])};
      }
      expected.push_back(static_cast<float>(sum));
    }
  }
  // A packed weight is scaled and shifted in one rounding, its own decode in two: now and then a bf16 apart.
  testing::expect_close({y, y + t * n}, expected, pack ? 1e-4 : 2e-6,
                        fmt::format("{} packed {} {}x{}x{} [{}, {})", type.name, pack, t, n, k, first, last),
                        std::sqrt(static_cast<double>(k)));
}

TEST(CpuTiles, MatchesDoubleInEveryFormat) {
  const IsaKernels* isa = amx::emulated();
  if (!isa) GTEST_SKIP() << "no AVX512_BF16";
  for (const TypeTraits* type : quant::kAllTypes) {
    if (!type->encode) continue;
    for (const bool pack : {false, true}) {
      if (pack && !quant::rows16({*type, {16, 256}, Rows::all})) continue;
      check(*isa, *type, pack, 33, {61}, 256, 0, 61);
    }
  }
}

TEST(CpuTiles, EdgesOfTokensRowsAndColumns) {
  const IsaKernels* isa = amx::emulated();
  if (!isa) GTEST_SKIP() << "no AVX512_BF16";
  for (const TypeTraits* type : {&quant::f32, &quant::f16, &quant::bf16}) check(*isa, *type, false, 5, {17}, 33, 0, 17);
  for (const bool pack : {false, true}) {
    check(*isa, quant::q8_0, pack, 1, {16}, 32, 0, 16);
    check(*isa, quant::q8_0, pack, 70, {128}, 64, 0, 128);
    check(*isa, quant::q4_0, pack, 32, {24, 40, 9}, 96, 0, 73);  // blocks that begin within a tile
    check(*isa, quant::q4_0, pack, 3, {200}, 32, 9, 137);        // as many rows as there may be, none of them aligned
    check(*isa, quant::q5_1, pack, 2, {40}, 2048 + 64, 0, 40);   // two chunks of columns
    check(*isa, quant::q6_K, pack, 34, {33}, 2 * 2048 + 256, 0, 33);
  }
}

// Tiles serve only plans of many tokens, by another arithmetic than one token's.
TEST(CpuTiles, AreNotForDeterministicLogits) {
  const IsaKernels* isa = amx::emulated();
  if (!isa) GTEST_SKIP() << "no AVX512_BF16";
  EXPECT_NE(testing::find_kernel(list_kernels(*isa), "linear.bf16.amx"), nullptr);
  EXPECT_EQ(testing::find_kernel(list_kernels(*isa, /*deterministic=*/true), "linear.bf16.amx"), nullptr);
}

}  // namespace
}  // namespace weft::cpu
