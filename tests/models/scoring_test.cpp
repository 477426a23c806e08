#include "models/session/scoring.h"

#include <gtest/gtest.h>

#include <cmath>

#include "graph/error.h"

namespace weft {
namespace {

TEST(Scoring, LogSoftmaxSumsToOneAndBearsLargeLogits) {
  const std::vector<float> logits = {1e4f, 1e4f + 1, -1e4f};
  std::vector<float> out(3);
  log_softmax(logits, out);
  EXPECT_NEAR(out[0], -std::log(1 + std::exp(1.0)), 1e-6);
  EXPECT_NEAR(out[1] - out[0], 1, 1e-6);
  EXPECT_NEAR(out[2], -2e4f - 1.3132617f, 1e-2);
}

TEST(Scoring, PerplexityOfAUniformGuess) {
  PerplexityScore score;
  EXPECT_EQ(score.perplexity(), 0);
  for (int i = 0; i < 5; ++i) score.add(-std::log(8.0));
  EXPECT_NEAR(score.perplexity(), 8, 1e-12);
  EXPECT_NEAR(score.standard_error(), 0, 1e-6);
  score.add(-std::log(2.0));
  EXPECT_GT(score.standard_error(), 0.1);
}

TEST(Scoring, KlDivergence) {
  const auto logs = [](std::vector<float> p) {
    for (float& x : p) x = std::log(x);
    return p;
  };
  KlScore kl;
  kl.add(logs({0.5f, 0.5f}), logs({0.5f, 0.5f}));
  kl.add(logs({0.5f, 0.5f}), logs({0.25f, 0.75f}));
  const double second = 0.5 * std::log(2.0) + 0.5 * std::log(0.5 / 0.75);
  EXPECT_NEAR(kl.mean(), second / 2, 1e-7);
  EXPECT_NEAR(kl.maximum(), second, 1e-7);
  EXPECT_NEAR(kl.percentile(0.5), 0, 1e-7);
  EXPECT_NEAR(kl.percentile(0.99), second, 1e-7);
  EXPECT_EQ(kl.same_top(), 0.5) << "of two equal ones the first is the top";
  EXPECT_EQ(kl.tokens(), 2);
  EXPECT_THROW(kl.add(logs({1}), logs({0.5f, 0.5f})), Error);
}

TEST(Scoring, TokensOfNoProbabilityCountNothing) {
  KlScore kl;
  kl.add(std::vector<float>{0, -INFINITY}, std::vector<float>{std::log(0.5f), std::log(0.5f)});
  EXPECT_NEAR(kl.mean(), std::log(2.0), 1e-6);
}

}  // namespace
}  // namespace weft
