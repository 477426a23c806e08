#include "models/session/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "graph/error.h"
#include "models/session/philox.h"

namespace weft {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
using Words = std::array<uint32_t, 4>;

/// Everything off: plain sampling at temperature 1.
SamplerOptions plain() {
  return {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .repeat_penalty = 1, .repeat_last_n = 64, .seed = 1};
}

/// How often each id comes in n draws.
std::map<int32_t, int> draw(const SamplerOptions& options, const std::vector<float>& logits, int n = 20000) {
  Sampler sampler(options);
  std::map<int32_t, int> counts;
  for (int i = 0; i < n; ++i) ++counts[sampler.sample(logits, {}, static_cast<uint64_t>(i))];
  return counts;
}

// Random123's kat_vectors, philox4x32 10.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
  EXPECT_LT(philox_uniform(~0ull, ~0ull), 1.0);
  EXPECT_NE(philox_uniform(1, 1ull << 40), philox_uniform(1, 0));  // all 64 bits count
  EXPECT_NE(philox_uniform(1ull << 40, 0), philox_uniform(0, 0));
}

TEST(Sampler, GreedyTakesTheLowestOfEqualIds) {
  SamplerOptions options = plain();
  options.temperature = 0;
  Sampler sampler(options);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 3, 2}, {}, 0), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{kNan, -kInf, -5, kNan}, {}, 0), 2);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, kInf, 0}, {}, 0), 1);
}

TEST(Sampler, FollowsTheDistribution) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.6f), -kInf, std::log(0.3f), kNan};
  auto counts = draw(plain(), logits);
  EXPECT_NEAR(counts[0], 2000, 200);
  EXPECT_NEAR(counts[1], 12000, 350);
  EXPECT_NEAR(counts[3], 6000, 350);
  EXPECT_EQ(counts.size(), 3u);
  SamplerOptions cold = plain();
  cold.temperature = 0.5f;  // squares the probabilities
  counts = draw(cold, logits);
  EXPECT_NEAR(counts[1], 20000 * 0.36 / 0.46, 350);
}

TEST(Sampler, TopK) {
  SamplerOptions options = plain();
  options.top_k = 2;
  const auto counts = draw(options, {1, 0, 1, 1}, 500);  // of equal ones the lower ids
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_TRUE(counts.contains(0) && counts.contains(2));
  options.top_k = 1;
  EXPECT_EQ(draw(options, {0, 1, 0}, 100).size(), 1u);
}

TEST(Sampler, TopP) {
  const std::vector<float> logits = {std::log(0.15f), std::log(0.5f), std::log(0.05f), std::log(0.3f)};
  const auto kept = [&](float top_p) {
    SamplerOptions options = plain();
    options.top_p = top_p;
    return draw(options, logits, 2000).size();
  };
  EXPECT_EQ(kept(0.01f), 1u);
  EXPECT_EQ(kept(0.49f), 1u);
  EXPECT_EQ(kept(0.51f), 2u);
  EXPECT_EQ(kept(0.81f), 3u);
  EXPECT_EQ(kept(0.96f), 4u);
}

// The nucleus is found in sorted blocks; one that spans several must be as if all were sorted.
TEST(Sampler, TopPOverManyTokens) {
  SamplerOptions options = plain();
  options.top_p = 0.5f;
  for (const size_t n : {255u, 256u, 257u, 2048u, 5003u}) {
    const auto counts = draw(options, std::vector<float>(n, 0.0f), 300);
    EXPECT_LT(static_cast<size_t>(counts.rbegin()->first), (n + 1) / 2) << n;  // equal ones: the lower half
  }
}

TEST(Sampler, MinP) {
  SamplerOptions options = plain();
  options.min_p = 0.25f;
  const auto counts = draw(options, {std::log(0.1f), std::log(0.6f), std::log(0.3f)}, 2000);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_FALSE(counts.contains(0));
}

TEST(Sampler, RepeatPenaltyOncePerToken) {
  SamplerOptions options = plain();
  options.temperature = 0;
  options.repeat_penalty = 2;
  Sampler sampler(options);
  const std::vector<float> logits = {3, 2, -1, -1.5f};
  EXPECT_EQ(sampler.sample(logits, {}, 0), 0);
  EXPECT_EQ(sampler.sample(logits, std::vector<int32_t>{0, 0, 0}, 0), 1);                   // 1.5 against 2
  EXPECT_EQ(sampler.sample(logits, std::vector<int32_t>{0, 1, -7, 99}, 0), 0);              // 1.5 against 1
  EXPECT_EQ(sampler.sample(std::vector<float>{-1, -1.5f}, std::vector<int32_t>{0}, 0), 1);  // -2 against -1.5
  options.repeat_last_n = 1;
  EXPECT_EQ(Sampler(options).sample(logits, std::vector<int32_t>{0, 3}, 0), 0);  // 0 is too long ago
  options.repeat_last_n = -1;
  EXPECT_EQ(Sampler(options).sample(logits, std::vector<int32_t>{0, 3}, 0), 1);
}

TEST(Sampler, DrawsDependOnSeedAndPositionOnly) {
  const std::vector<float> logits(1000, 0.0f);
  Sampler a(plain()), b(plain());
  std::vector<int32_t> forward, backward;
  for (uint64_t i = 0; i < 50; ++i) forward.push_back(a.sample(logits, {}, i));
  for (uint64_t i = 50; i-- > 0;) backward.insert(backward.begin(), b.sample(logits, {}, i));
  EXPECT_EQ(forward, backward);
  SamplerOptions other = plain();
  other.seed = 2;
  Sampler c(other);
  int same = 0;
  for (uint64_t i = 0; i < 50; ++i) same += c.sample(logits, {}, i) == forward[i];
  EXPECT_LT(same, 5);
}

TEST(Sampler, ExtremeLogits) {
  SamplerOptions options = plain();
  EXPECT_EQ(draw(options, {kInf, 0, -kInf, kNan}, 100).size(), 1u);
  EXPECT_EQ(draw(options, {kInf, kInf}, 100).size(), 2u);
  options.temperature = 1e-30f;
  EXPECT_EQ(draw(options, {1, 1.001f}, 100).begin()->first, 1);
  options.temperature = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(draw(options, {-3e38f, 3e38f}, 100).begin()->first, 1);
  options.repeat_penalty = std::numeric_limits<float>::min();
  Sampler sampler(options);
  EXPECT_EQ(sampler.sample(std::vector<float>{1e30f, 0}, std::vector<int32_t>{0}, 0), 0);
  for (const std::vector<float>& none : {std::vector<float>{}, {kNan, kNan}, {-kInf}}) {
    EXPECT_THROW(Sampler(plain()).sample(none, {}, 0), Error);
  }
}

/// The `k` largest, in the order of ops/candidates.h.
std::pair<std::vector<float>, std::vector<int32_t>> largest(const std::vector<float>& logits, size_t k) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::ranges::stable_sort(ids, std::greater{}, [&](int32_t id) { return logits[static_cast<size_t>(id)]; });
  ids.resize(k);
  std::vector<float> values;
  for (const int32_t id : ids) values.push_back(logits[static_cast<size_t>(id)]);
  return {values, ids};
}

TEST(Sampler, TheLogitsThatDecideGiveTheTokenOfAll) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 2);
  for (uint64_t i = 0; i < 2000; ++i) {
    std::vector<float> logits(300);
    for (float& logit : logits) logit = i % 2 == 0 ? normal(random) : std::round(normal(random));  // with ties
    std::vector<int32_t> history(i % 90);
    for (int32_t& id : history) id = static_cast<int32_t>(random() % 320);
    SamplerOptions options = plain();
    options.seed = i;
    options.temperature = i % 3 == 0 ? 0.0f : 0.7f;
    options.top_k = 1 + static_cast<int>(random() % 50);
    options.top_p = i % 5 == 0 ? 1.0f : 0.9f;
    options.min_p = i % 7 == 0 ? 0.0f : 0.02f;
    options.repeat_penalty = i % 4 == 0 ? 1.0f : 1.3f;
    Sampler all(options), few(options);
    const size_t k = few.decisive(history);
    ASSERT_GE(k, 1u);
    ASSERT_LE(k, 50u + 64);
    const auto [values, ids] = largest(logits, k + i % 3);
    EXPECT_EQ(few.sample(values, ids, history, i), all.sample(logits, history, i)) << "draw " << i;
  }
}

TEST(Sampler, AllLogitsDecideWithoutTopKOrWherePenaltiesRaise) {
  SamplerOptions options = plain();
  options.top_k = 0;
  EXPECT_EQ(Sampler(options).decisive({}), 0u);
  options.temperature = 0;
  EXPECT_EQ(Sampler(options).decisive({}), 1u);
  options.repeat_penalty = 0.9f;
  EXPECT_EQ(Sampler(options).decisive({}), 0u);
}

TEST(Sampler, OptionsOutOfRangeAreErrors) {
  const auto refused = [](auto change) {
    SamplerOptions options = plain();
    change(options);
    EXPECT_THROW(Sampler{options}, Error);
  };
  for (const float bad : {-0.1f, kNan, kInf}) refused([&](auto& o) { o.temperature = bad; });
  for (const float bad : {-0.1f, 0.0f, 1.1f, kNan}) refused([&](auto& o) { o.top_p = bad; });
  for (const float bad : {-0.1f, 1.1f, kNan}) refused([&](auto& o) { o.min_p = bad; });
  for (const float bad : {-1.0f, 0.0f, kNan, kInf}) refused([&](auto& o) { o.repeat_penalty = bad; });
  refused([](auto& o) { o.top_k = -1; });
  refused([](auto& o) { o.repeat_last_n = -2; });
}

}  // namespace
}  // namespace weft
