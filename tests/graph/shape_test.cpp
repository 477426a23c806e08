// Shape: sizes are computed once and safely; a wrapped product would become a short allocation.
#include "graph/shape.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

TEST(Shape, RowsAndColumns) {
  const Shape shape{2, 3, 5};
  EXPECT_EQ(shape.rank(), 3);
  EXPECT_EQ(shape.elements(), 30);
  EXPECT_EQ(shape.columns(), 5);
  EXPECT_EQ(shape.rows(), 6);
  EXPECT_EQ(shape[-1], 5);
  EXPECT_EQ(shape[-3], 2);
  EXPECT_EQ(to_string(shape), "[2, 3, 5]");
}

TEST(Shape, RankZeroIsOneElement) {
  EXPECT_EQ(Shape{}.elements(), 1);
  EXPECT_EQ(Shape{}.rows(), 1);
  EXPECT_EQ(to_string(Shape{}), "[]");
}

TEST(Shape, ZeroDimensionsAreLegal) {
  EXPECT_EQ((Shape{0, 4}).elements(), 0);
  EXPECT_EQ((Shape{4, 0}).rows(), 0);
}

TEST(Shape, EqualityIgnoresWhatIsPastTheRank) {
  Shape a{2, 3};
  EXPECT_EQ(a, (Shape{2, 3}));
  EXPECT_NE(a, (Shape{2, 3, 1}));
  a.set(-1, 4);
  EXPECT_EQ(a, (Shape{2, 4}));
}

TEST(Shape, ImpossibleShapesAreErrors) {
  EXPECT_ERROR((Shape{2, -1}), "cannot be negative, given [2, -1]");
  EXPECT_ERROR((Shape{1, 1, 1, 1, 1, 1}), "at most 5 dimensions, given 6");
  EXPECT_ERROR((Shape{int64_t{1} << 40, int64_t{1} << 40}), "too many elements");
}

}  // namespace
}  // namespace weft
