#include "models/session/kv_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "graph/error.h"

namespace weft {
namespace {

/// What must hold whatever was done: enough pages for each sequence and not one more, each of them one sequence's.
void expect_sound(const KvCache& cache, const std::map<int, int64_t>& lengths) {
  std::set<int32_t> taken;
  for (const auto& [sequence, length] : lengths) {
    ASSERT_EQ(cache.length(sequence), length);
    const auto pages = cache.pages(sequence);
    ASSERT_EQ(static_cast<int64_t>(pages.size()), (length + cache.page_size() - 1) / cache.page_size());
    for (const int32_t page : pages) {
      ASSERT_TRUE(page >= 0 && page < cache.n_pages()) << page;
      ASSERT_TRUE(taken.insert(page).second) << "page " << page << " belongs to two sequences";
    }
    for (int64_t at = 0; at < length; ++at) {
      const auto page = pages[static_cast<size_t>(at / cache.page_size())];
      ASSERT_EQ(cache.slot(sequence, at), page * cache.page_size() + at % cache.page_size());
    }
  }
}

TEST(KvCache, PagesAreNeverSharedAndNeverLost) {
  constexpr int64_t kContext = 23, kSequences = 5;
  for (const int64_t page_size : {1, 4, 7, 23, 64}) {
    SCOPED_TRACE(page_size);
    KvCache cache(kContext, kSequences, page_size);
    std::map<int, int64_t> lengths;  // of the open sequences
    std::mt19937 random(static_cast<unsigned>(page_size));
    const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
    for (int step = 0; step < 2000; ++step) {
      const int64_t what = below(10);
      if (what == 0 && lengths.size() == kSequences) {
        EXPECT_THROW(cache.open(), Error);
      } else if (what == 0 || lengths.empty()) {
        const int sequence = cache.open();
        ASSERT_TRUE(lengths.emplace(sequence, 0).second) << "an open sequence was handed out again";
      } else {
        const auto it = std::next(lengths.begin(), below(static_cast<int64_t>(lengths.size())));
        auto& [sequence, length] = *it;
        if (what == 1) {
          cache.close(sequence);
          lengths.erase(it);
        } else if (what < 5) {
          const int64_t to = below(kContext + 5);  // past the end: nothing to forget
          cache.truncate(sequence, to);
          length = std::min(length, to);
        } else {
          const int64_t more = below(kContext / 2);
          if (length + more > kContext) {
            EXPECT_THROW(cache.extend(sequence, more), Error);
          } else {
            cache.extend(sequence, more);
            length += more;
          }
        }
      }
      ASSERT_NO_FATAL_FAILURE(expect_sound(cache, lengths)) << "step " << step;
    }
    for (const auto& [sequence, length] : lengths) cache.close(sequence);
    lengths.clear();
    for (int64_t i = 0; i < kSequences; ++i) {  // a page that was lost would be missing here
      const int sequence = cache.open();
      cache.extend(sequence, kContext);
      lengths[sequence] = kContext;
    }
    expect_sound(cache, lengths);
  }
}

TEST(KvCache, AFullContextIsAnErrorThatChangesNothing) {
  KvCache cache(10, 1, 4);
  const int sequence = cache.open();
  cache.extend(sequence, 7);
  try {
    cache.extend(sequence, 4);
    FAIL() << "no Error was thrown";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "the context is full: 7 tokens cached, 4 more asked for, room for 10");
  }
  EXPECT_EQ(cache.length(sequence), 7);
  EXPECT_EQ(cache.pages(sequence).size(), 2u);
  cache.extend(sequence, 3);
  EXPECT_EQ(cache.length(sequence), 10);
}

TEST(KvCache, OnlyOpenSequencesHaveRoom) {
  KvCache cache(10, 2, 4);
  const int sequence = cache.open();
  for (const int wrong : {-1, sequence + 1, 2, 1000}) EXPECT_THROW(cache.check_room(wrong, 1), Error) << wrong;
  cache.close(sequence);
  EXPECT_THROW(cache.check_room(sequence, 1), Error);
}

TEST(KvCache, TruncatingBelowNothingLeavesNothing) {
  KvCache cache(10, 1, 4);
  const int sequence = cache.open();
  cache.extend(sequence, 5);
  cache.truncate(sequence, -3);
  EXPECT_EQ(cache.length(sequence), 0);
  EXPECT_TRUE(cache.pages(sequence).empty());
}

TEST(KvCache, SizesThatMakeNoSenseAreErrors) {
  EXPECT_THROW(KvCache(0, 1, 64), Error);
  EXPECT_THROW(KvCache(64, 0, 64), Error);
  EXPECT_THROW(KvCache(64, 1, 0), Error);
  EXPECT_THROW(KvCache(INT32_MAX, 4, 64), Error);
  EXPECT_NO_THROW(KvCache(65, 2, 64));
}

}  // namespace
}  // namespace weft
