// The definitions against the golden files: what every fused op means, lowered and run by the oracle.
#include <gtest/gtest.h>

#include <filesystem>

#include "convert/golden_ops.h"
#include "tests/support/evaluate.h"

namespace weft {
namespace {

const std::string kFolder = std::string(WEFT_SOURCE_DIR) + "/../shared/golden/ops";
constexpr double kTolerance = 1e-5;

class GoldenOps : public ::testing::TestWithParam<std::string> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenOps);

TEST_P(GoldenOps, LoweredOnRef) {
  const GoldenCase golden(GetParam());
  testing::States states;
  for (const GoldenCase::Step& step : golden.steps()) {
    Graph graph;
    golden.build(graph);
    verify(graph);
    testing::Feeds feeds;
    for (const auto& feed : step.feeds) feeds[feed.input] = feed.bytes;
    testing::Outputs outputs = testing::evaluate(graph, feeds, states, {step.tokens, step.tokens});
    for (const auto& expected : step.expected) {
      const testing::HostTensor& got = outputs.at(expected.output);
      ASSERT_LE(expected.values.size(), static_cast<size_t>(got.type.shape.elements()));
      EXPECT_LE(golden_error(got.type, got.bytes.data(), expected), kTolerance) << expected.output;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenOps, ::testing::ValuesIn(golden_files(kFolder)), [](const auto& param) {
  std::string name = std::filesystem::path(param.param).stem().string();
  std::ranges::replace(name, '.', '_');
  return name;
});

TEST(GoldenOpsFolder, HoldsAllCases) {
  const size_t n = golden_files(kFolder).size();
  if (n == 0) GTEST_SKIP() << "no golden files: " << kFolder << " is absent";
  EXPECT_EQ(n, 71u);
}

}  // namespace
}  // namespace weft
