#include "ops/movement.h"

#include "ops/quant/all.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

TEST(Movement, ReshapeKeepsOrderAndBytes) {
  OpGraph g;
  const Value x = g.f32({2, 3}, {1, 2, 3, 4, 5, 6}, Rows::tokens);
  EXPECT_EQ(reshape(x, {2, 3, 1}).type().rows, Rows::tokens);
  EXPECT_EQ(reshape(x, {3, 2}).type().rows, Rows::all);
  EXPECT_EQ(schema_of<Reshape>().outputs[0].alias, Reshape::kX);
  expect_near(g.run(reshape(x, {3, 2})), {1, 2, 3, 4, 5, 6});
  EXPECT_ERROR(reshape(x, {4, 2}), "reshape: cannot reshape f32[T=2, 3] to [4, 2]");
}

TEST(Movement, PermuteMovesDimensions) {
  OpGraph g;
  const Value x = g.f32({2, 3, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, Rows::tokens);
  const Value swapped = permute(x, {1, 0, 2});
  EXPECT_EQ(swapped.type().shape, (Shape{3, 2, 2}));
  EXPECT_EQ(swapped.type().rows, Rows::all);
  expect_near(g.run(swapped), {0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11});
  const Value inner = permute(x, {0, 2, 1});
  EXPECT_EQ(inner.type().rows, Rows::tokens);
  expect_near(g.run(inner), {0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11});
  EXPECT_ERROR(permute(x, {0, 0, 1}), "names dimension 0 twice");
  EXPECT_ERROR(permute(x, {0, 1}), "an order of 2 cannot permute f32[T=2, 3, 2]");
}

TEST(Movement, SliceOfEveryDimension) {
  OpGraph g;
  const Value x = g.f32({3, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  expect_near(g.run(slice(x, 0, 1, 2)), {4, 5, 6, 7, 8, 9, 10, 11});
  expect_near(g.run(slice(x, 1, 1, 1)), {2, 3, 6, 7, 10, 11});
  expect_near(g.run(slice(x, 2, 1, 1)), {1, 3, 5, 7, 9, 11});
  expect_near(g.run(slice(g.f32({4}, {1, 2, 3, 4}), 0, 1, 2)), {2, 3});
  expect_near(g.run(slice(g.i32({4}, {1, 2, 3, 4}), 0, 1, 2)), {2, 3});
  EXPECT_EQ(slice(x, 1, 0, 2), x) << "the whole needs no node";
  EXPECT_ERROR(slice(x, 1, 1, 2), "slice: cannot take [1, 3) of dimension 1 of f32[3, 2, 2]");
  EXPECT_ERROR(slice(x, 3, 0, 1), "there is no dimension 3 in f32[3, 2, 2]");
}

TEST(Movement, ConcatAlongEveryDimension) {
  OpGraph g;
  const Value a = g.f32({2, 2}, {1, 2, 3, 4}), b = g.f32({2, 1}, {8, 9}), c = g.f32({1, 2}, {5, 6});
  expect_near(g.run(concat(1, {a, b, a})), {1, 2, 8, 1, 2, 3, 4, 9, 3, 4});
  expect_near(g.run(concat(0, {a, c})), {1, 2, 3, 4, 5, 6});
  expect_near(g.run(concat(0, {g.f32({2}, {1, 2}), g.f32({1}, {3})})), {1, 2, 3});
  EXPECT_ERROR(concat(0, {a, b}), "concat: cannot concatenate f32[2, 1] to f32[2, 2] along dimension 0");
}

TEST(Movement, QuantizedElementsDoNotMove) {
  OpGraph g;
  const Value x = g.graph.input("q", {quant::q8_0, {2, 32}});
  EXPECT_ERROR(slice(x, 1, 0, 16), "elements of q8_0[2, 32] cannot move one by one");
}

}  // namespace
}  // namespace weft
