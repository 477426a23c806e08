// TensorType: bytes follow the blocks of the dtype; everything that allocates trusts them.
#include "graph/tensor.h"

#include "ops/quant/q8_0.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

TEST(TensorType, BytesCountBlocks) {
  EXPECT_EQ(f32_type({3, 5}).bytes(), 60u);
  const TensorType blocks{quant::q8_0, {3, 64}};
  EXPECT_EQ(blocks.row_bytes(), 68u);
  EXPECT_EQ(blocks.bytes(), 204u);
  EXPECT_EQ(f32_type({}).bytes(), 4u);
  EXPECT_EQ(f32_type({0, 7}).bytes(), 0u);
}

TEST(TensorType, PrintsWhatTheLeadingDimensionCounts) {
  EXPECT_EQ(to_string(f32_type({8, 64}, Rows::tokens)), "f32[T=8, 64]");
  EXPECT_EQ(to_string(i32_type({2}, Rows::logits)), "i32[L=2]");
  EXPECT_EQ(to_string(f32_type({2, 3})), "f32[2, 3]");
  EXPECT_EQ(to_string(TensorType{}), "none");
}

TEST(TensorType, RowsArePartOfEquality) {
  EXPECT_NE(f32_type({8}), f32_type({8}, Rows::tokens));
  EXPECT_EQ(f32_type({8}), f32_type({8}));
}

TEST(TensorType, WhatCannotBeStoredIsAnError) {
  EXPECT_ERROR(check_storable({quant::q8_0, {2, 33}}), "rows of 33 elements are not whole blocks of q8_0 (32 each)");
  EXPECT_ERROR(check_storable({DType{}, {2}}), "has no type");
  EXPECT_ERROR(check_storable(f32_type({int64_t{1} << 31, int64_t{1} << 31})), "too large");
}

}  // namespace
}  // namespace weft
