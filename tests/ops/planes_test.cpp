// The layout that GPU kernels read: every byte of a weight, in the plane of its field.
#include "ops/quant/planes.h"

#include <gtest/gtest.h>

#include <random>

#include "ops/quant/all.h"

namespace weft {
namespace {

TEST(Planes, HoldEveryByteOfEveryBlock) {
  int n_types = 0;
  for (const TypeTraits* traits : quant::kAllTypes) {
    const DType type(*traits);
    const auto fields = quant::plane_fields(type);
    if (fields.empty()) continue;
    ++n_types;
    const TensorType shape{type, {7, 3 * static_cast<int64_t>(traits->block_elems)}};
    const Layout* layout = quant::planes(shape);
    ASSERT_NE(layout, nullptr);
    std::vector<std::byte> stored(shape.bytes()), packed(layout->bytes(shape));
    std::mt19937 random(1);
    for (std::byte& b : stored) b = static_cast<std::byte>(random());
    const Tensor source{shape, stored.data()};
    layout->pack(source, packed.data(), 4, 7);  // ranges of rows may come in any order
    layout->pack(source, packed.data(), 0, 4);
    constexpr size_t kBlocks = 21;
    size_t plane = 0;
    for (const quant::PlaneField& field : fields) {
      EXPECT_EQ(plane % quant::kPlaneAlignment, 0u);
      for (size_t block = 0; block < kBlocks; ++block) {
        const std::byte* expected = stored.data() + block * traits->block_bytes + field.offset;
        EXPECT_TRUE(std::equal(expected, expected + field.bytes, packed.data() + plane + block * field.bytes))
            << type.name() << ", block " << block << ", field at " << field.offset;
      }
      plane += quant::plane_bytes(kBlocks, field.bytes);
    }
    EXPECT_EQ(plane, packed.size());
  }
  EXPECT_EQ(n_types, 9);
}

TEST(Planes, OtherTypesAreReadAsTheyAre) {
  for (const TypeTraits* type : {&quant::f16, &quant::q4_K, &quant::q5_K, &quant::iq1_s}) {
    EXPECT_EQ(quant::planes({*type, {2, 512}}), nullptr) << type->name;
  }
}

}  // namespace
}  // namespace weft
