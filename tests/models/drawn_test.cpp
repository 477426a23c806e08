// Session::step_drawn: the tokens are those that a Sampler draws of all logits, also where a step was started before it
// was asked for; and where the host has to draw nothing is fed.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "backends/ref/ref.h"
#include "models/session/session.h"
#include "tests/support/test_backend.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

constexpr int64_t kVocab = 200;

SessionOptions drawn_options(std::string backend) {
  SessionOptions options;
  options.backend = std::move(backend);
  options.precision = Precision::exact;
  options.max_sequences = 2;
  return options;
}

SamplerOptions penalized(uint64_t seed) {
  return {.temperature = 0.8f, .top_k = 20, .top_p = 0.95f, .min_p = 0.02f, .repeat_penalty = 1.3f, .seed = seed};
}
SamplerOptions plain(uint64_t seed) { return {.temperature = 1.2f, .top_k = 40, .top_p = 1, .min_p = 0, .seed = seed}; }

/// A model on ref and on a device with memory of its own, which starts steps ahead.
struct DrawnPair {
  explicit DrawnPair(int64_t context)
      : runtime(Env{}, backends(make_ref_backend(), test_backend(1))),
        model(tiny_model({.n_layer = 1, .context = context, .n_vocab = kVocab})),
        plain(model, runtime, drawn_options("ref")),
        ahead(model, runtime, drawn_options("test")) {}

  Runtime runtime;
  Model model;
  Session plain, ahead;
};

TEST(Drawn, IsWhatASamplerDrawsWhateverIsFedNext) {
  constexpr int64_t kContext = 150;  // pages are crossed, and the end is reached
  DrawnPair pair(kContext);
  std::mt19937 random(5);
  const int sequences[] = {pair.plain.open_sequence(), pair.plain.open_sequence()};
  for (const int sequence : sequences) ASSERT_EQ(pair.ahead.open_sequence(), sequence);
  const SamplerOptions options[] = {penalized(3), plain(4)};
  std::vector<int32_t> histories[] = {{1}, {2}};
  for (int i = 0; i < 400; ++i) {
    const auto dice = random() % 40;
    if (dice == 0) {  // back to an earlier place, or to another token there
      const size_t s = random() % 2;
      const int64_t kept = pair.plain.length(sequences[s]) / 2;
      pair.plain.truncate(sequences[s], kept), pair.ahead.truncate(sequences[s], kept);
      histories[s].resize(static_cast<size_t>(kept) + 1);
    } else if (dice == 1) {
      histories[random() % 2].back() = static_cast<int32_t>(random() % kVocab);
    } else if (dice == 2) {
      const int32_t id = 7;
      const Feed feed{sequences[0], {&id, 1}};
      if (pair.plain.length(sequences[0]) < kContext)
        pair.plain.step({&feed, 1}), pair.ahead.step_ranked({&feed, 1}, 1);
      histories[0].back() = 7;
      histories[0].push_back(8);
    }
    const unsigned who = random() % 8 == 0 ? 1 + random() % 2 : 3;  // mostly both
    std::vector<size_t> fed;
    std::vector<Feed> feeds;
    std::vector<Draw> draws;
    for (size_t s = 0; s < 2; ++s) {
      if (pair.plain.length(sequences[s]) == kContext) {
        pair.plain.truncate(sequences[s], 3), pair.ahead.truncate(sequences[s], 3);
        histories[s].resize(4);
      }
      if ((who >> s & 1) == 0) continue;
      fed.push_back(s);
      feeds.push_back({sequences[s], std::span(histories[s]).last(1)});
      draws.push_back({options[s], histories[s], histories[s].size()});
    }
    const auto logits = pair.plain.step(feeds);
    const auto drawn = pair.ahead.step_drawn(feeds, draws);
    ASSERT_TRUE(drawn.has_value());
    ASSERT_EQ(drawn->size(), feeds.size());
    for (size_t f = 0; f < fed.size(); ++f) {
      const size_t s = fed[f];
      Sampler sampler(options[s]);
      const int32_t expected = sampler.sample(logits.subspan(f * kVocab, kVocab), histories[s], histories[s].size());
      ASSERT_EQ((*drawn)[f], expected) << "step " << i << ", sequence " << s;
      ASSERT_EQ(pair.ahead.length(sequences[s]), pair.plain.length(sequences[s]));
    }
    for (size_t f = 0; f < fed.size(); ++f) histories[fed[f]].push_back((*drawn)[f]);
  }
}

TEST(Drawn, TheStepAheadIsTheOneAskedFor) {
  int n_appends = 0;
  const ref::Primitive* append = ref::find_primitive("append_pages");
  Runtime runtime(Env{}, backends(test_backend(
                             1, {TestBackend::kernel("append_pages.counted", {"append_pages"}, [&](const Call& call) {
                               ++n_appends;
                               append->run(call, 0, append->rows(call));
                             })})));
  const Model model(tiny_model({.n_layer = 1, .context = 300, .n_vocab = kVocab}));
  Session session(model, runtime, drawn_options("test"));
  const int sequence = session.open_sequence();
  std::vector<int32_t> history = {1};
  constexpr int kSteps = 90;  // more than the penalty looks back, and than a page has
  for (int i = 0; i < kSteps; ++i) {
    const Feed feed{sequence, std::span(history).last(1)};
    const Draw draw{penalized(6), history, history.size()};
    const auto drawn = session.step_drawn({&feed, 1}, {&draw, 1});
    ASSERT_TRUE(drawn.has_value());
    history.push_back((*drawn)[0]);
  }
  EXPECT_EQ(n_appends, 2 * (kSteps + 1)) << "of keys and values: each step once, and one that nobody asked for";
}

TEST(Drawn, WhatTheHostHasToDrawIsNotFed) {
  DrawnPair pair(60);
  const int sequence = pair.ahead.open_sequence();
  ASSERT_EQ(pair.plain.open_sequence(), sequence);
  const std::vector<int32_t> history = {4, 5};
  const auto refuses = [&](Session& session, SamplerOptions options, size_t n_fed, size_t n_history) {
    const Feed feed{sequence, std::span(history).last(n_fed)};
    const Draw draw{options, std::span(history).first(n_history), 2};
    const bool refused = !session.step_drawn({&feed, 1}, {&draw, 1}).has_value();
    EXPECT_EQ(session.length(sequence), refused ? 0 : 1);
    session.truncate(sequence, 0);
    return refused;
  };
  EXPECT_FALSE(refuses(pair.ahead, plain(1), 1, 2));
  EXPECT_FALSE(refuses(pair.ahead, penalized(1), 1, 2));
  EXPECT_TRUE(refuses(pair.plain, plain(1), 1, 2)) << "the model runs on the host";
  EXPECT_TRUE(refuses(pair.ahead, plain(1), 2, 2)) << "several tokens";
  EXPECT_TRUE(refuses(pair.ahead, plain(1), 1, 1)) << "the history ends with another token";
  EXPECT_TRUE(refuses(pair.ahead, plain(1), 1, 0));
  SamplerOptions options = plain(1);
  options.top_k = 0;
  EXPECT_TRUE(refuses(pair.ahead, options, 1, 2)) << "all logits";
  options = penalized(1);
  options.top_k = 65;
  EXPECT_TRUE(refuses(pair.ahead, options, 1, 2)) << "more than fit";
  options = penalized(1);
  options.repeat_penalty = 0.9f;
  EXPECT_TRUE(refuses(pair.ahead, options, 1, 2)) << "penalties raise logits that are not looked at";
  options.top_p = 0;
  EXPECT_THROW(refuses(pair.ahead, options, 1, 2), Error);
  const Feed feed{sequence, std::span(history).last(1)};
  EXPECT_THROW(pair.ahead.step_drawn({&feed, 1}, {}), Error);

  std::vector<int32_t> many(100);
  std::iota(many.begin(), many.end(), 0);
  SamplerOptions all = penalized(1);
  all.repeat_last_n = -1;
  const Feed last{sequence, std::span(many).last(1)};
  const auto draws = [&](size_t n) {
    const Draw draw{all, std::span(many).last(n), 2};
    return pair.ahead.step_drawn({&last, 1}, {&draw, 1}).has_value();
  };
  EXPECT_TRUE(draws(64));
  EXPECT_FALSE(draws(65)) << "more recent tokens than fit";
}

}  // namespace
}  // namespace weft
