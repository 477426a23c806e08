#include "models/session/batcher.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace weft {
namespace {

using Ints = std::vector<int32_t>;

/// The key of a step of one sequence that has `past` tokens.
PlanKey key_of(int64_t past, size_t n_tokens, bool all_logits = false, int64_t context = 100000) {
  KvCache cache(context, 1, 64);
  const int sequence = cache.open();
  cache.extend(sequence, past);
  const Ints tokens(n_tokens, 1);
  const Feed feed{sequence, tokens, all_logits};
  return plan_key(make_step({&feed, 1}, cache), cache);
}

TEST(Batcher, WritesTheInputsOfAStep) {
  KvCache cache(12, 3, 4);
  const int a = cache.open(), b = cache.open();
  cache.extend(b, 5);  // two pages
  const Ints first = {10, 11, 12}, second = {20, 21};
  const Feed feeds[] = {{b, first}, {a, second, true}};
  const StepInputs step = make_step(feeds, cache);
  EXPECT_EQ(step.ids, (Ints{10, 11, 12, 20, 21}));
  EXPECT_EQ(step.positions, (Ints{5, 6, 7, 0, 1}));
  EXPECT_EQ(step.sequence_ids, (Ints{0, 0, 0, 1, 1})) << "numbered by feed, not by sequence";
  EXPECT_EQ(step.sequence_starts, (Ints{0, 3, 5}));
  EXPECT_EQ(step.kv_lengths, (Ints{8, 2}));
  EXPECT_EQ(step.logit_rows, (Ints{2, 3, 4})) << "the last of one, all of the other";
  EXPECT_EQ(step.longest(), 8);
  ASSERT_EQ(step.pages.size(), 2u);
  EXPECT_EQ(step.pages[0].size(), 2u);
  EXPECT_EQ(step.pages[1].size(), 1u);
  for (size_t i = 0; i < step.ids.size(); ++i) {
    const int sequence = i < 3 ? b : a;
    EXPECT_EQ(step.slots[i], cache.slot(sequence, step.positions[i]));
  }
  EXPECT_EQ(std::set<int32_t>(step.slots.begin(), step.slots.end()).size(), step.slots.size());
}

TEST(Batcher, PageTablesAreFilledUpWithNone) {
  KvCache cache(64, 4, 4);
  const int a = cache.open(), b = cache.open(), c = cache.open();
  const Ints one(1, 7), nine(9, 7);
  const Feed feeds[] = {{a, one}, {b, nine}, {c, one}};
  const StepInputs step = make_step(feeds, cache);
  const PlanKey key = plan_key(step, cache);
  EXPECT_EQ(key, (PlanKey{.tokens = 16, .logits = 8, .sequences = 4, .kv_pages = 4}));
  const auto table = page_table(step, key);
  ASSERT_EQ(table.size(), 16u);
  EXPECT_EQ(Ints(table.begin() + 4, table.begin() + 8),
            (Ints{step.pages[1][0], step.pages[1][1], step.pages[1][2], -1}));
  EXPECT_EQ(Ints(table.begin() + 12, table.end()), (Ints{-1, -1, -1, -1})) << "a sequence that is not there";
}

TEST(Batcher, DecodingKeepsItsKeyForLong) {
  std::set<PlanKey> keys;
  for (int64_t past = 0; past < 5000; ++past) keys.insert(key_of(past, 1));
  EXPECT_EQ(keys.size(), 6u) << "pages up to 4, 8, 16, 32, 64, 128";
  EXPECT_EQ(key_of(0, 1), key_of(255, 1));
  EXPECT_EQ(key_of(0, 1), (PlanKey{.tokens = 1, .logits = 1, .sequences = 1, .kv_pages = 4}));
}

TEST(Batcher, CapacitiesHoldTheStep) {
  for (const size_t n : {1, 2, 7, 8, 9, 63, 64, 65, 511, 512}) {
    for (const bool all : {false, true}) {
      const PlanKey key = key_of(100, n, all);
      EXPECT_GE(key.tokens, static_cast<int64_t>(n));
      EXPECT_LE(key.tokens, 8 * static_cast<int64_t>(n)) << "too much room for " << n;
      EXPECT_EQ(key.logits, all ? key.tokens : 1);
      EXPECT_GE(key.kv_pages * 64, static_cast<int64_t>(n) + 100);
    }
  }
  EXPECT_EQ(key_of(0, 1, false, 100).kv_pages, 2) << "no more pages than the context has";
}

TEST(Batcher, WrongFeedsAreErrorsThatChangeNothing) {
  KvCache cache(10, 2, 4);
  const int a = cache.open(), b = cache.open();
  const Ints three(3, 1), none, eleven(11, 1);
  const auto refused = [&](std::vector<Feed> feeds, const char* message) {
    try {
      make_step(feeds, cache);
      ADD_FAILURE() << "no Error was thrown: " << message;
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), message);
    }
    EXPECT_EQ(cache.length(a) + cache.length(b), 0);
  };
  refused({}, "a step needs tokens");
  refused({{a, three}, {b, none}}, "a step needs tokens; sequence 1 has none");
  refused({{a, three}, {b, three}, {a, three}}, "sequence 0 is fed twice in one step");
  refused({{a, three}, {b, eleven}}, "the context is full: 0 tokens cached, 11 more asked for, room for 10");
  refused({{a, three}, {2, three}}, "sequence 2 is not open");
}

}  // namespace
}  // namespace weft
