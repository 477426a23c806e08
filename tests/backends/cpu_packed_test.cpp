// The 8-bit matrix product of packed weights: each instruction set x format against double arithmetic on the same
// quantized activations, so that nothing but the kernel's own rounding is forgiven.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "backends/cpu/isa.h"
#include "backends/cpu/matmul.h"
#include "ops/quant/all.h"
#include "ops/quant/rows16.h"
#include "tests/backends/cpu_fixture.h"

namespace weft::cpu {
namespace {

std::vector<const IsaKernels*> isas() {
  std::vector<const IsaKernels*> list;
  for (const IsaKernels* isa : supported_isas()) {
    if (isa->matmul_packed) list.push_back(isa);
  }
  return list;
}

/// Weights of random bytes: every code of the format, scales of ordinary size.
struct PackedCase {
  int64_t tokens, rows, k;
  TensorType type;
  std::vector<std::byte> stored, packed;
  std::vector<float> x;
  std::vector<QuantizedBlock> quantized;

  PackedCase(const TypeTraits& dtype, int64_t t, int64_t n, int64_t columns, const IsaKernels& isa)
      : tokens(t), rows(n), k(columns), type{dtype, {n, columns}, Rows::all}, stored(type.bytes()) {
    std::mt19937 generator(7);
    std::normal_distribution<float> normal;
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t r = 0; r < rows; ++r) {
      for (float& value : row) value = normal(generator);
      dtype.encode(row.data(), stored.data() + static_cast<size_t>(r) * type.row_bytes(), row.size(), nullptr);
    }
    x.resize(static_cast<size_t>(t * k));
    for (float& value : x) value = normal(generator);
    pack();
    quantize(isa);
  }
  void pack() {
    const Layout& layout = *quant::rows16(type);
    packed.resize(layout.bytes(type));
    layout.pack({type, stored.data(), nullptr}, packed.data(), 0, rows);
  }
  void quantize(const IsaKernels& isa) {
    quantized.resize(static_cast<size_t>(tokens * k / kQuantizedElems));
    for (int64_t t = 0; t < tokens; ++t) isa.quantize(x.data() + t * k, k, quantized.data() + t * k / kQuantizedElems);
  }

  /// Rows [first, last) for tokens [t0, t1), into their places of [tokens, rows].
  void multiply(const IsaKernels& isa, int64_t first, int64_t last, int64_t t0, int64_t t1, float* out) const {
    isa.matmul_packed({.x = quantized.data() + t0 * k / kQuantizedElems,
                       .x_stride = k / kQuantizedElems,
                       .n_tokens = t1 - t0,
                       .k = k,
                       .format = row_block({type, nullptr, nullptr}).format,
                       .w = packed.data(),
                       .first_row = first,
                       .n_rows = last - first,
                       .out = out + t0 * rows + first,
                       .out_stride = rows});
  }

  std::vector<float> expected() const {
    std::vector<float> out(static_cast<size_t>(tokens * rows)), w(static_cast<size_t>(k));
    for (int64_t n = 0; n < rows; ++n) {
      type.dtype->decode(stored.data() + static_cast<size_t>(n) * type.row_bytes(), w.data(), w.size());
      for (int64_t t = 0; t < tokens; ++t) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) {
          const QuantizedBlock& block = quantized[static_cast<size_t>((t * k + i) / kQuantizedElems)];
          sum += static_cast<double>(w[static_cast<size_t>(i)]) * block.q[i % kQuantizedElems] * block.d;
        }
        out[static_cast<size_t>(t * rows + n)] = static_cast<float>(sum);
      }
    }
    return out;
  }
};

template <typename F>
void for_packed_types(F f) {
  for (const TypeTraits* type : quant::kAllTypes) {
    if (type->encode && quant::rows16({*type, {16, 256}, Rows::all})) f(*type);
  }
}

TEST(CpuPacked, MatchesDouble) {
  for_packed_types([](const TypeTraits& type) {
    for (const IsaKernels* isa : isas()) {
      for (const auto& [t, n, blocks] : {std::array<int64_t, 3>{1, 16, 1},
                                         {1, 37, 3},
                                         {1, 83, 2},
                                         {2, 5, 2},
                                         {7, 33, 2},
                                         {21, 50, 1},
                                         {70, 20, 9}}) {
        const PackedCase c(type, t, n, blocks * type.block_elems, *isa);
        testing::Guarded out(static_cast<size_t>(t * n) * sizeof(float));
        auto* y = reinterpret_cast<float*>(out.data());
        c.multiply(*isa, 0, n, 0, t, y);
        EXPECT_TRUE(out.intact());
        testing::expect_close({y, y + t * n}, c.expected(), 3e-6,
                              fmt::format("{} {} {}x{}x{}", isa->name, type.name, t, n, c.k),
                              std::sqrt(static_cast<double>(c.k)));
      }
    }
  });
}

// Sums of products at their largest: all bits of the weights set or clear, activations at +-127. What saturates or
// wraps is off by far.
TEST(CpuPacked, NothingSaturates) {
  for_packed_types([](const TypeTraits& type) {
    for (const IsaKernels* isa : isas()) {
      for (const int fill : {0x00, 0xFF, 0x80, 0x7F, 0x0F, 0xF0}) {
        for (const float sign : {1.0f, -1.0f}) {
          constexpr int64_t kTokens = 19;  // both as they come and unpacked for many
          PackedCase c(type, kTokens, 16, 2 * type.block_elems, *isa);
          const std::vector<std::byte> scales = c.stored;
          std::fill(c.stored.begin(), c.stored.end(), static_cast<std::byte>(fill));
          const size_t block = type.block_bytes;  // scales stay those of ordinary weights
          const bool tail = type.name == "q6_K";
          const size_t kept = type.name == "mxfp4" ? 1
                              : type.name == "q4_1" || type.name == "q5_1" || type.name == "q4_K" || type.name == "q5_K"
                                  ? 4
                                  : 2;
          for (size_t at = 0; at < c.stored.size(); at += block) {
            const size_t from = tail ? at + block - kept : at;
            std::copy_n(scales.begin() + static_cast<ptrdiff_t>(from), kept,
                        c.stored.begin() + static_cast<ptrdiff_t>(from));
          }
          for (float& value : c.x) value = sign;
          c.pack();
          c.quantize(*isa);
          std::vector<float> got(kTokens * 16);
          c.multiply(*isa, 0, 16, 0, 3, got.data());
          c.multiply(*isa, 0, 16, 3, kTokens, got.data());
          testing::expect_close(got, c.expected(), 3e-6, fmt::format("{} {} {:#x}", isa->name, type.name, fill),
                                16);  // 128 x is added and taken away
        }
      }
    }
  });
}

TEST(CpuPacked, BitsDependOnNeitherTileNorTokens) {
  for_packed_types([](const TypeTraits& type) {
    for (const IsaKernels* isa : isas()) {
      const int64_t t = 83, n = 147;  // twice four tiles for one token, and a rest
      const PackedCase c(type, t, n, (type.block_elems < 256 ? 11 : 2) * type.block_elems, *isa);
      std::vector<float> whole(static_cast<size_t>(t * n)), one_by_one(whole), split(whole);
      c.multiply(*isa, 0, n, 0, t, whole.data());
      for (int64_t i = 0; i < t; ++i) c.multiply(*isa, 0, n, i, i + 1, one_by_one.data());
      for (int64_t r = 0; r < n; r += 7) c.multiply(*isa, r, std::min(r + 7, n), 0, t, split.data());
      EXPECT_EQ(whole, one_by_one) << isa->name << " " << type.name << ": one token and many differ";
      EXPECT_EQ(whole, split) << isa->name << " " << type.name << ": ranges of rows differ";
    }
  });
}

TEST(CpuPacked, QuantizesToTheNearest) {
  std::vector<float> x;
  for (int i = 0; i < 32; ++i) x.push_back(std::sin(static_cast<float>(i)) * 3);
  for (int i = 0; i < 32; ++i) x.push_back(0);
  for (int i = 0; i < 32; ++i) x.push_back(1e-38f * static_cast<float>(i));
  for (int i = 0; i < 32; ++i) x.push_back(i == 5 ? -3e38f : 1e30f);
  for (const IsaKernels* isa : isas()) {
    std::vector<QuantizedBlock> blocks(4);
    isa->quantize(x.data(), 128, blocks.data());
    for (size_t b = 0; b < 4; ++b) {
      int halves[2] = {0, 0};
      for (size_t i = 0; i < 32; ++i) {
        const int q = blocks[b].q[i];
        EXPECT_LE(std::abs(q), 127);
        halves[i / 16] += q;
        const double error = std::abs(static_cast<double>(blocks[b].d) * q - static_cast<double>(x[b * 32 + i]));
        EXPECT_LE(error, std::max(0.5001 * static_cast<double>(blocks[b].d), 1e-30)) << isa->name << " block " << b;
      }
      for (size_t half = 0; half < 2; ++half) {
        int less = blocks[b].less32[half];  // AVX2 sums pairs in 16 bits: two halves of 16, their sum is all
        if (isa->name == std::string_view("avx2")) less = static_cast<int16_t>(less & 0xFFFF) + (less >> 16);
        EXPECT_EQ(less, -32 * halves[half]) << isa->name << " block " << b;
      }
      EXPECT_EQ(blocks[b].less128, -128 * (halves[0] + halves[1])) << isa->name << " block " << b;
      EXPECT_FLOAT_EQ(blocks[b].sum, blocks[b].d * static_cast<float>(halves[0] + halves[1]));
    }
  }
}

// A model that has gone wrong must not look right.
TEST(CpuPacked, WhatIsNotFiniteStaysSo) {
  for (const IsaKernels* isa : isas()) {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      PackedCase c(quant::q8_0, 1, 16, 64, *isa);
      c.x[40] = bad;
      c.quantize(*isa);
      std::vector<float> out(16);
      c.multiply(*isa, 0, 16, 0, 1, out.data());
      for (const float y : out) EXPECT_FALSE(std::isfinite(y)) << isa->name;
    }
  }
}

}  // namespace
}  // namespace weft::cpu
