#include "convert/expert_layout.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <vector>

#include "ops/quant/f32.h"
#include "ops/quant/mxfp4.h"

namespace weft {
namespace {

/// 0, 1, 2, ... in this shape.
struct Counting {
  explicit Counting(const Shape& shape) : values(static_cast<size_t>(shape.elements())) {
    std::iota(values.begin(), values.end(), 0.0f);
    tensor = {{quant::f32, shape}, reinterpret_cast<std::byte*>(values.data())};
  }
  std::vector<float> values;
  Tensor tensor;
};

// Two experts of 40 inputs and 2 x 35 interleaved outputs: more than a tile each way.
TEST(ExpertLayout, ColumnsBecomeRows) {
  const Counting from({2, 40, 70});
  for (const int64_t part : {0, 1}) {
    std::vector<float> to(2 * 35 * 40);
    // In two ranges that no tile or expert ends at.
    expert_columns(from.tensor, {part, 2}, 0, 37, reinterpret_cast<std::byte*>(to.data()));
    expert_columns(from.tensor, {part, 2}, 37, 70, reinterpret_cast<std::byte*>(to.data() + 37 * 40));
    for (int64_t e = 0; e < 2; ++e) {
      for (int64_t o = 0; o < 35; ++o) {
        for (int64_t i = 0; i < 40; ++i) {
          ASSERT_EQ(to[static_cast<size_t>((e * 35 + o) * 40 + i)],
                    static_cast<float>((e * 40 + i) * 70 + 2 * o + part));
        }
      }
    }
  }
}

TEST(ExpertLayout, BiasesAreTakenInTurn) {
  const Counting from({2, 6});
  std::array<float, 6> to{};
  every_nth(from.tensor, {1, 2}, reinterpret_cast<std::byte*>(to.data()));
  EXPECT_EQ(to, (std::array<float, 6>{1, 3, 5, 7, 9, 11}));
}

// Hugging Face packs elements 2j and 2j + 1 in a byte, GGUF j and j + 16.
TEST(ExpertLayout, Mxfp4Blocks) {
  constexpr int64_t kRows = 4, kGroups = 2;  // one expert, gate and up interleaved
  std::vector<std::byte> blocks(kRows * kGroups * 16), scales(kRows * kGroups);
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::byte>(i * 37 + 11);
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<std::byte>(120 + i);
  for (const int64_t part : {0, 1}) {
    std::array<quant::BlockMXFP4, 2 * kGroups> to;
    mxfp4_expert_rows(blocks, scales, kGroups, {part, 2}, 0, 2, reinterpret_cast<std::byte*>(to.data()));
    for (size_t row = 0; row < 2; ++row) {
      for (size_t g = 0; g < kGroups; ++g) {
        const size_t group = (2 * row + static_cast<size_t>(part)) * kGroups + g;
        float values[32];
        const quant::BlockMXFP4& block = to[row * kGroups + g];
        block.decode(values);
        EXPECT_EQ(block.e, std::to_integer<uint8_t>(scales[group]));
        for (size_t i = 0; i < 32; ++i) {
          const auto byte = std::to_integer<unsigned>(blocks[group * 16 + i / 2]);
          const unsigned code = i % 2 == 0 ? byte & 15 : byte >> 4;
          EXPECT_EQ(values[i], block.half_scale() * static_cast<float>(quant::kLevelsMXFP4[code]));
        }
      }
    }
  }
}

}  // namespace
}  // namespace weft
