// Slots: an op's inputs keep their indices whatever is absent; if not, kernels read the wrong operand.
#include "graph/slots.h"

#include <gtest/gtest.h>

namespace weft {
namespace {

using IntSlots = Slots<int>;  // 0 is "absent"

TEST(Slots, AbsentItemsKeepTheirIndex) {
  const IntSlots slots = {1, 0, std::vector<int>{2, 3}, std::vector<int>{}, 4};
  ASSERT_EQ(slots.size(), 5u);
  EXPECT_EQ(slots[0], 1);
  EXPECT_EQ(slots[1], 0);
  EXPECT_FALSE(slots.has(1));
  EXPECT_EQ(slots[2], 2);
  EXPECT_EQ(slots.list(2).size(), 2u);
  EXPECT_TRUE(slots.list(3).empty());
  EXPECT_EQ(slots[4], 4);
  EXPECT_EQ(slots.all().size(), 4u);
}

TEST(Slots, ASlotPastTheEndIsAbsent) {
  const IntSlots slots = {1};
  EXPECT_EQ(slots[7], 0);
  EXPECT_FALSE(slots.has(7));
  EXPECT_TRUE(IntSlots{}.list(0).empty());
}

TEST(Slots, MapKeepsSlotsAndOrder) {
  const IntSlots slots = {1, 0, std::vector<int>{2, 3}};
  const auto mapped = slots.map([](int i) { return i * 1.5; });
  ASSERT_EQ(mapped.size(), 3u);
  EXPECT_EQ(mapped[0], 1.5);
  EXPECT_FALSE(mapped.has(1));
  EXPECT_EQ(mapped.list(2)[1], 4.5);
}

}  // namespace
}  // namespace weft
