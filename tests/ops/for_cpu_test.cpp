#include "ops/quant/for_cpu.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "ops/quant/find.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

// A file must not depend on the machine that wrote it.
TEST(ForThisCpu, GivesTheSameBits) {
  constexpr size_t kN = 64 * 256;
  auto values = random_values(kN, 5, 0.02), importance = random_values(kN, 6);
  for (float& w : importance) w = std::abs(w);
  const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-42f, 1e38f, std::numeric_limits<float>::max()};
  for (size_t i = 0; i < 512; ++i) values[i * 32] = odd[i % 9];  // in the first half only
  for (const TypeTraits* type : quant::all_types()) {
    const TypeTraits& fast = quant::for_this_cpu(*type);
    EXPECT_EQ(fast.name, type->name);
    EXPECT_EQ(fast.encode == nullptr, type->encode == nullptr);
    const size_t bytes = kN / type->block_elems * type->block_bytes;
    std::vector<std::byte> got(bytes), expected(bytes);
    for (size_t i = 0; i < bytes; ++i) expected[i] = static_cast<std::byte>(i * 37 + i / 251);
    if (type->encode != nullptr) {
      for (const float* weights : {static_cast<const float*>(nullptr), static_cast<const float*>(importance.data())}) {
        type->encode(values.data(), expected.data(), kN, weights);
        fast.encode(values.data(), got.data(), kN, weights);
        EXPECT_EQ(std::memcmp(got.data(), expected.data(), bytes), 0) << type->name << " is encoded differently";
      }
    }
    std::vector<float> a(kN), b(kN);
    type->decode(expected.data(), a.data(), kN);
    fast.decode(expected.data(), b.data(), kN);
    EXPECT_EQ(std::memcmp(a.data(), b.data(), kN * sizeof(float)), 0) << type->name << " is decoded differently";
  }
}

}  // namespace
}  // namespace weft
