#include "convert/quantized.h"

#include <gtest/gtest.h>

#include <cstring>

#include "models/model.h"
#include "ops/quant/f16.h"
#include "ops/quant/find.h"
#include "ops/quant/q8_0.h"
#include "tests/convert/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

TEST(Quantized, MatricesGetTheTypeVectorsStay) {
  const auto source = tiny_model({.architecture = "gpt2", .d_model = 96, .n_head = 3, .d_ff = 64});
  const auto result = quantized(source, {.type = "q8_0"});
  EXPECT_EQ(result->path(), source->path());
  EXPECT_EQ(result->tensor_names(), source->tensor_names());
  EXPECT_EQ(result->metadata().entries().size(), source->metadata().entries().size());
  for (const std::string& name : source->tensor_names()) {
    SCOPED_TRACE(name);
    const LoadedTensor from = source->load(name), to = result->load(name);
    EXPECT_EQ(to->type.shape, from->type.shape);
    if (from->type.shape.rank() < 2 || name == "position_embd.weight") {
      EXPECT_EQ(to->type, from->type);
      EXPECT_EQ(to->data, from->data) << "kept, not copied";
      continue;
    }
    ASSERT_EQ(to->type.dtype, DType(quant::q8_0));
    std::vector<std::byte> expected(to->type.bytes());
    quant::q8_0.encode(from->as<float>(), expected.data(), static_cast<size_t>(from->type.elements()), nullptr);
    EXPECT_EQ(std::memcmp(to->data, expected.data(), expected.size()), 0);
  }
  EXPECT_NO_THROW(Model{result});
}

TEST(Quantized, RowsThatNoBlockDividesBecomeF16) {
  const auto source = tiny_model({.d_model = 32, .n_head = 2, .d_ff = 50});
  const auto result = quantized(source, {.type = "q8_0"});
  EXPECT_EQ(result->type("blk.0.ffn_up.weight")->dtype, DType(quant::q8_0));
  EXPECT_EQ(result->type("blk.0.ffn_down.weight")->dtype, DType(quant::f16)) << "rows of 50";
  expect_message(error_of([&] { quantized(source, {.type = "q8_0", .fallback = false}); }),
                 "tiny: tensor blk.0.ffn_down.weight has rows of 50 elements, q8_0 needs whole blocks of 32");
}

TEST(Quantized, NoTypeChangesNothing) {
  const auto source = tiny_model();
  const auto result = quantized(source, {});
  for (const std::string& name : source->tensor_names()) EXPECT_EQ(result->load(name)->data, source->at(name).data);
  EXPECT_EQ(result->type("no such"), nullptr);
}

}  // namespace
}  // namespace weft
