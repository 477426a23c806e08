// Session::step_ranked: what is chosen where the logits are is what they say, also where a step was started before it
// was asked for.
#include <gtest/gtest.h>

#include <random>

#include "backends/ref/ref.h"
#include "models/session/sampler.h"
#include "models/session/session.h"
#include "tests/support/test_backend.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

/// A model on ref and on a device with memory of its own, which starts steps ahead.
struct Pair {
  explicit Pair(int64_t context)
      : runtime(Env{}, backends(make_ref_backend(), test_backend(1))),
        model(tiny_model({.n_layer = 1, .context = context})),
        plain(model, runtime, options("ref")),
        ahead(model, runtime, options("test")) {}

  static SessionOptions options(std::string backend) {
    SessionOptions options;
    options.backend = std::move(backend);
    options.precision = Precision::exact;
    options.max_sequences = 2;
    return options;
  }

  Runtime runtime;
  Model model;
  Session plain, ahead;
};

SamplerOptions greedy() { return {.temperature = 0}; }

TEST(Ranked, IsWhatAllLogitsSayWhateverIsFedNext) {
  constexpr int64_t kContext = 150;  // pages are crossed, and the end is reached
  Pair pair(kContext);
  std::mt19937 random(3);
  Sampler sampler(greedy());
  std::vector<int> sequences = {pair.plain.open_sequence(), pair.plain.open_sequence()};
  for (const int sequence : sequences) ASSERT_EQ(pair.ahead.open_sequence(), sequence);
  std::vector<int32_t> chosen = {0, 0};
  for (int i = 0; i < 600; ++i) {
    const auto dice = random() % 40;
    if (dice == 0) {
      const int sequence = sequences[random() % 2];
      const int64_t kept = pair.plain.length(sequence) * static_cast<int64_t>(random() % 4) / 4;
      pair.plain.truncate(sequence, kept);
      pair.ahead.truncate(sequence, kept);
    } else if (dice == 1) {
      int& sequence = sequences[random() % 2];
      pair.plain.close_sequence(sequence);
      pair.ahead.close_sequence(sequence);
      sequence = pair.plain.open_sequence();
      ASSERT_EQ(pair.ahead.open_sequence(), sequence);
    } else if (dice == 2) {
      pair.ahead.decode_plan();
    }
    std::vector<std::vector<int32_t>> fed(2);
    std::vector<Feed> feeds;
    const unsigned who = random() % 8 == 0 ? 1 + random() % 3 : 3;  // mostly both
    for (size_t s = 0; s < 2; ++s) {
      const int64_t room = kContext - pair.plain.length(sequences[s]);
      if ((who >> s & 1) == 0 || room == 0) continue;
      fed[s] = {chosen[s]};
      if (random() % 20 == 0) fed[s] = {static_cast<int32_t>(random() % 61)};
      if (random() % 30 == 0 && room >= 3) fed[s] = {5, chosen[s], 7};
      feeds.push_back({sequences[s], fed[s]});
    }
    if (feeds.empty()) {
      for (const int sequence : sequences) pair.plain.truncate(sequence, 3), pair.ahead.truncate(sequence, 3);
      continue;
    }
    const auto logits = pair.plain.step(feeds);
    const int64_t k = random() % 16 == 0 ? 20 : 1;
    const Ranked ranked = pair.ahead.step_ranked(feeds, k);
    ASSERT_GE(ranked.each, k);
    ASSERT_EQ(ranked.tokens.size(), feeds.size() * static_cast<size_t>(ranked.each));
    for (size_t f = 0, s = 0; f < feeds.size(); ++f, ++s) {
      while (fed[s].empty()) ++s;
      chosen[s] = sampler.sample(logits.subspan(f * 61, 61), {}, 0);
      ASSERT_EQ(ranked.tokens[f * static_cast<size_t>(ranked.each)], chosen[s]) << "step " << i;
      ASSERT_EQ(pair.ahead.length(sequences[s]), pair.plain.length(sequences[s]));
    }
  }
}

/// test_backend, counting how often keys are written.
std::unique_ptr<TestBackend> counting_backend(int& n_appends) {
  const ref::Primitive* append = ref::find_primitive("append_pages");
  return test_backend(
      1, {TestBackend::kernel("append_pages.counted", {"append_pages"}, [&n_appends, append](const Call& call) {
        ++n_appends;
        append->run(call, 0, append->rows(call));
      })});
}

TEST(Ranked, TheStepAheadIsTheOneAskedForAlsoWherePagesAreCrossed) {
  int n_appends = 0;
  Runtime runtime(Env{}, backends(counting_backend(n_appends)));
  const Model model(tiny_model({.n_layer = 1, .context = 300}));
  Session session(model, runtime, Pair::options("test"));
  const int sequences[] = {session.open_sequence(), session.open_sequence()};
  std::vector<int32_t> chosen = {1, 2};
  constexpr int kSteps = 150;  // two pages and more
  for (int i = 0; i < kSteps; ++i) {
    const Feed feeds[] = {{sequences[0], std::span(chosen).subspan(0, 1)},
                          {sequences[1], std::span(chosen).subspan(1, 1)}};
    const auto tokens = session.step_ranked(feeds, 1).tokens;
    chosen = {tokens[0], tokens[1]};
  }
  EXPECT_EQ(n_appends, 2 * (kSteps + 1)) << "of keys and values: each step once, and one that nobody asked for";
}

TEST(Ranked, OutOfBoundsIsAnError) {
  Pair pair(60);
  const int32_t id = 1;
  const Feed feed{pair.ahead.open_sequence(), {&id, 1}};
  EXPECT_THROW(pair.ahead.step_ranked({&feed, 1}, 0), Error);
  EXPECT_THROW(pair.ahead.step_ranked({&feed, 1}, Session::kMostRanked + 1), Error);
  EXPECT_EQ(pair.ahead.step_ranked({&feed, 1}, Session::kMostRanked).each, 61) << "all there are";
}

}  // namespace
}  // namespace weft
