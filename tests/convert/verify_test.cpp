#include "convert/verify.h"

#include <gtest/gtest.h>

#include "backends/all.h"
#include "ops/quant/all.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

/// A byte-level vocabulary: the 256 bytes as GPT-2 writes them, and one merge.
void give_vocabulary(Metadata& m, const std::string& merge) {
  std::vector<std::string> tokens;
  int extra = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    const int point = printable ? byte : extra++;
    std::string text;
    if (point < 128) text = static_cast<char>(point);
    else text = {static_cast<char>(0xC0 | point >> 6), static_cast<char>(0x80 | (point & 63))};
    tokens.push_back(text);
  }
  std::string merged = merge;
  merged.erase(merged.find(' '), 1);
  tokens.push_back(merged);
  m.set("tokenizer.ggml.model", std::string("gpt2"));
  m.set("tokenizer.ggml.pre", std::string("gpt-2"));
  m.set("tokenizer.ggml.tokens", MetaArray(tokens));
  m.set("tokenizer.ggml.merges", MetaArray(std::vector<std::string>{merge}));
}

struct Verify : ::testing::Test {
  Runtime runtime{Env{}, make_backends(Env{}, {.threads = 2})};
};

TEST_F(Verify, AnEqualModelPassesAndAnotherTokenizerDoesNot) {
  const TinyOptions options{.n_vocab = 257};
  const auto source = tiny_model(options), same = tiny_model(options), other = tiny_model(options);
  give_vocabulary(source->edit(), "h e");
  give_vocabulary(same->edit(), "h e");
  give_vocabulary(other->edit(), "l l");
  const Verification equal = verify_conversion(source, same, runtime, "cpu");
  EXPECT_TRUE(equal.passed());
  EXPECT_GT(equal.strings, 40);
  EXPECT_GT(equal.tokens, 250);
  const Verification wrong = verify_conversion(source, other, runtime, "cpu");
  EXPECT_FALSE(wrong.passed());
  EXPECT_FALSE(wrong.disagreements.empty());
  EXPECT_LT(wrong.disagreements.size(), static_cast<size_t>(wrong.strings)) << "some have neither pair";
}

TEST_F(Verify, OtherWeightsDoNotPass) {
  const Verification v = verify_conversion(tiny_model(), tiny_model({.seed = 2}), runtime, "cpu");
  EXPECT_FALSE(v.passed());
  EXPECT_EQ(v.strings, 0) << "no vocabulary";
  EXPECT_GT(v.tokens, 100) << "ids drawn at random";
  EXPECT_TRUE(verify_conversion(tiny_model(), tiny_model({.seed = 2}), runtime, "cpu", 1e3).passed()) << "as asked";
}

TEST(VerifyBounds, CoarserTypesMayLoseMore) {
  EXPECT_LT(kl_bound_of(quant::f32), kl_bound_of(quant::q8_0));
  EXPECT_LT(kl_bound_of(quant::q8_0), kl_bound_of(quant::q4_K));
  EXPECT_LT(kl_bound_of(quant::q4_K), kl_bound_of(quant::q2_K));
}

}  // namespace
}  // namespace weft
