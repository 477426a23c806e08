#include "convert/golden_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "convert/safetensors_writer.h"
#include "ops/quant/f32.h"
#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

const std::string kData = std::string(WEFT_SOURCE_DIR) + "/tests/data/golden_ops";

TEST(GoldenCase, ListsFilesByName) {
  const auto files = golden_files(kData);
  EXPECT_EQ(files.size(), 6u);
  EXPECT_TRUE(std::ranges::is_sorted(files));
  EXPECT_TRUE(golden_files("/no/such/folder").empty());
}

TEST(GoldenCase, HoldsWhatToFeedAndWhatToExpect) {
  for (const std::string& file : golden_files(kData)) {
    SCOPED_TRACE(file);
    const GoldenCase golden(file);
    EXPECT_EQ(golden.name().find(golden.op()), 0u) << "a case is called after its op";
    ASSERT_FALSE(golden.steps().empty());
    Graph graph;
    golden.build(graph);
    EXPECT_NO_THROW(verify(graph));
    for (const auto& step : golden.steps()) {
      EXPECT_GT(step.tokens, 0);
      EXPECT_FALSE(step.feeds.empty());
      EXPECT_FALSE(step.expected.empty());
    }
  }
}

TEST(GoldenCase, AttentionRunsStepByStep) {
  const GoldenCase golden(kData + "/softmax_context.mqa.safetensors");
  ASSERT_GE(golden.steps().size(), 2u);
  int cached = 0;
  for (const auto& step : golden.steps()) {
    for (const auto& feed : step.feeds) {
      if (feed.input != "positions") continue;
      ASSERT_EQ(feed.bytes.size(), static_cast<size_t>(step.tokens) * 4);
      EXPECT_EQ(*reinterpret_cast<const int32_t*>(feed.bytes.data()), cached);
    }
    cached += step.tokens;
  }
  EXPECT_EQ(golden.steps().back().expected.size(), 3u) << "the context, and the caches at the end";
}

TEST(GoldenCase, FilesThatAreNoCasesAreErrors) {
  const TempFolder folder;
  const auto refused = [&](const std::map<std::string, std::string>& metadata, std::string_view message) {
    const std::string path = folder.file("case.safetensors");
    float value = 1;
    write_safetensors(path, {{"in.input", {{quant::f32, {1, 1}}, reinterpret_cast<std::byte*>(&value)}}}, metadata);
    const std::string got = error_of([&] {
      const GoldenCase golden(path);
      Graph graph;
      golden.build(graph);
    });
    expect_message(got, message);
    expect_message(got, path);
  };
  refused({}, "is no golden file: its metadata has no attrs");
  refused({{"attrs", "{"}}, "parse error");
  refused({{"attrs", "[]"}}, "");
  refused({{"attrs", "{}"}}, "op");
  refused({{"attrs", R"({"op": "no_such"})"}}, "there is no op no_such");
  refused({{"attrs", R"({"op": 7})"}}, "string");
  refused({{"attrs", R"({"op": "linear"})"}}, "tensor out.output is missing");
  refused({{"attrs", R"({"op": "softmax_context"})"}}, "steps");
  refused({{"attrs", R"({"op": "softmax_context", "steps": []})"}}, "has no steps");
  refused({{"attrs", R"({"op": "softmax_context", "steps": [2]})"}}, "in.qkv.0 is missing");
  refused({{"attrs", R"({"op": "softmax_context", "steps": [-5, 2147483647, 2147483647]})"}}, "steps");
}

TEST(GoldenError, IsAShareOfTheLargest) {
  const TensorType type{quant::f32, {2, 2}};
  const auto error = [&](std::vector<float> got, std::vector<float> expected) {
    return golden_error(type, reinterpret_cast<const std::byte*>(got.data()), {"y", std::move(expected)});
  };
  EXPECT_EQ(error({1, 2, 3, -4}, {1, 2, 3, -4}), 0);
  EXPECT_DOUBLE_EQ(error({1, 2, 3, -4}, {1, 2, 4, -4}), 0.25);
  EXPECT_EQ(error({0, 0, 0, 0}, {0, 0, 0, 0}), 0) << "nothing expected, nothing got";
  EXPECT_TRUE(std::isinf(error({NAN, 0, 0, 0}, {0, 0, 0, 0})));
  EXPECT_TRUE(std::isinf(error({INFINITY, 0, 0, 0}, {1, 0, 0, 0})));
  EXPECT_EQ(error({5, 6, NAN, NAN}, {5, 6}), 0) << "only the leading rows are expected";
}

}  // namespace
}  // namespace weft
