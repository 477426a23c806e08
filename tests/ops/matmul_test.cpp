#include "ops/matmul.h"

#include "ops/quant/all.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

using testing::expect_near;
using testing::OpGraph;

/// f32 rows in another type, and what they decode to.
std::vector<std::byte> encoded(DType dtype, std::vector<float>& values) {
  std::vector<std::byte> bytes(values.size() / dtype->block_elems * dtype->block_bytes);
  dtype->encode(values.data(), bytes.data(), values.size(), nullptr);
  dtype->decode(bytes.data(), values.data(), values.size());
  return bytes;
}

TEST(Matmul, BlocksOfDifferentTypes) {
  OpGraph g;
  auto w0 = g.random_values(3 * 32), w1 = g.random_values(2 * 32), x = g.random_values(2 * 32);
  const Value y = matmul(g.f32({2, 32}, x), {g.input({quant::q8_0, {3, 32}}, encoded(quant::q8_0, w0)),
                                             g.input({quant::f16, {2, 32}}, encoded(quant::f16, w1))});
  std::vector<float> all = w0, expected;
  all.insert(all.end(), w1.begin(), w1.end());
  for (size_t t = 0; t < 2; ++t) {
    for (size_t n = 0; n < 5; ++n) {
      double sum = 0;
      for (size_t k = 0; k < 32; ++k) sum += static_cast<double>(x[t * 32 + k]) * static_cast<double>(all[n * 32 + k]);
      expected.push_back(static_cast<float>(sum));
    }
  }
  expect_near(g.run(y), expected);
}

TEST(Matmul, LeadingDimensionsAreKept) {
  OpGraph g;
  const Value y = matmul(g.f32({2, 1, 2}, {1, 2, 3, 4}, Rows::tokens), {g.f32({1, 2}, {10, 1})});
  EXPECT_EQ(y.type(), f32_type({2, 1, 1}, Rows::tokens));
  expect_near(g.run(y), {12, 34});
}

TEST(Matmul, Errors) {
  OpGraph g;
  const Value x = g.random({2, 5}), w = g.random({3, 4});
  EXPECT_ERROR(matmul(x, {w}), "matmul: weight has 4 columns, x has 5");
  EXPECT_ERROR(matmul(x, {}), "matmul: input weight is missing");
}

TEST(Matmul, BatchesWithAndWithoutTranspose) {
  OpGraph g;
  const Value a = g.f32({2, 1, 2}, {1, 2, 3, 4});
  expect_near(g.run(batch_matmul(a, g.f32({2, 3, 2}, {1, 0, 0, 1, 1, 1, 2, 0, 0, 2, 2, 2}))), {1, 2, 3, 6, 8, 14});
  expect_near(g.run(batch_matmul(a, g.f32({2, 2, 1}, {1, 1, 10, 1}), false)), {3, 34});
  EXPECT_ERROR(batch_matmul(a, g.random({2, 3, 3})), "a has 2 columns, b has 3");
  EXPECT_ERROR(batch_matmul(a, g.random({1, 3, 2})), "a has 2 matrices, b has 1");
}

TEST(Matmul, IndexedRowsGoThroughTheirExperts) {
  OpGraph g;
  const Value weight = g.f32({3, 1, 2}, {1, 0, 0, 1, 1, 1}), ids = g.i32({2, 2}, {2, 0, 1, 7});
  const Value shared = indexed_matmul(g.f32({2, 2}, {1, 2, 3, 4}), ids, weight);
  EXPECT_EQ(shared.type().shape, (Shape{2, 2, 1}));
  expect_near(g.run(shared), {3, 1, 4, 0});  // id 7 is out of range
  expect_near(g.run(indexed_matmul(g.f32({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}), ids, weight)), {3, 3, 6, 0});
  EXPECT_ERROR(indexed_matmul(g.random({2, 3}), ids, weight), "x must be [2, 2] or [2, 2, 2], given f32[2, 3]");
}

TEST(Matmul, CostStreamsTheWeightOnce) {
  const Types in = {f32_type({8, 32}, Rows::tokens), TensorType{quant::q8_0, {10, 32}}};
  const Matmul op;
  const Cost cost = op.cost(in, op.infer(in), {.tokens = 3});
  EXPECT_EQ(cost.weight_bytes, 10 * 34);
  EXPECT_EQ(cost.flops, 2 * 3 * 10 * 32);
  EXPECT_EQ(cost.activation_bytes, 4 * (3 * 32 + 3 * 10));
}

}  // namespace
}  // namespace weft
