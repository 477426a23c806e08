#include "ops/alibi.h"

#include <gtest/gtest.h>

namespace weft {
namespace {

TEST(Alibi, SlopesOfAnyHeadCount) {
  EXPECT_EQ(alibi_slopes(4), (std::vector<float>{0.25f, 0.0625f, 0.015625f, 0.00390625f}));
  EXPECT_EQ(alibi_slopes(1), (std::vector<float>{0.00390625f}));
  EXPECT_EQ(alibi_slopes(1, 2), (std::vector<float>{0.0078125f}));
  EXPECT_EQ(alibi_slopes(6), (std::vector<float>{0.25f, 0.0625f, 0.015625f, 0.00390625f, 0.5f, 0.125f}));
}

}  // namespace
}  // namespace weft
