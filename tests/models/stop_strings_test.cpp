#include "models/session/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace weft {
namespace {

struct Outcome {
  std::string text;
  bool stopped;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

/// The text fed in pieces that end at `cuts`.
Outcome feed(const std::vector<std::string>& stop, std::string_view text, const std::vector<size_t>& cuts) {
  StopStrings stops(stop);
  std::string out;
  size_t at = 0;
  for (const size_t cut : cuts) {
    out += stops.push(text.substr(at, cut - at));
    at = cut;
  }
  out += stops.push(text.substr(at));
  out += stops.flush();
  return {out, stops.stopped()};
}

TEST(StopStrings, NothingToStopAtHoldsNothingBack) {
  StopStrings stops({"", ""});
  EXPECT_EQ(stops.push("abc"), "abc");
  EXPECT_FALSE(stops.stopped());
  EXPECT_EQ(stops.flush(), "");
}

TEST(StopStrings, HoldsBackWhatMayBegin) {
  StopStrings stops({"END", "EX"});
  EXPECT_EQ(stops.push("a E"), "a ");
  EXPECT_EQ(stops.push("N"), "");
  EXPECT_EQ(stops.push("E"), "EN") << "EN is decided, the new E is not";
  EXPECT_EQ(stops.push("X never"), "");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.push("more"), "");
  EXPECT_EQ(stops.flush(), "");
}

TEST(StopStrings, FlushGivesWhatWasHeld) {
  StopStrings stops({"###"});
  EXPECT_EQ(stops.push("text ##"), "text ");
  EXPECT_EQ(stops.flush(), "##");
  EXPECT_EQ(stops.flush(), "");
}

TEST(StopStrings, TheEarliestCounts) {
  EXPECT_EQ(feed({"bcd", "c"}, "abcde", {}), (Outcome{"a", true}));
  EXPECT_EQ(feed({"cd", "bcdx"}, "abcde", {}), (Outcome{"ab", true}));
}

// However the text is cut, the outcome is that of the whole, unless an earlier cut decided for a shorter stop string.
TEST(StopStrings, CutsDoNotMatter) {
  std::mt19937 random(7);
  const auto text_of = [&](size_t n) {
    std::string text;
    for (size_t i = 0; i < n; ++i) text += "ab"[random() % 2];
    return text;
  };
  for (int round = 0; round < 2000; ++round) {
    const std::string stop = text_of(1 + random() % 4), text = text_of(random() % 24);
    const size_t found = text.find(stop);
    const Outcome expected{text.substr(0, found), found != std::string::npos};
    std::vector<size_t> cuts;
    for (size_t i = 1; i < text.size(); ++i) {
      if (random() % 3 == 0) cuts.push_back(i);
    }
    EXPECT_EQ(feed({stop}, text, cuts), expected) << text << " stopped at " << stop;
  }
}

}  // namespace
}  // namespace weft
