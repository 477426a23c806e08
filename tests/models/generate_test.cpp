#include "models/session/generate.h"

#include <gtest/gtest.h>

#include "models/session/byte_level.h"
#include "models/session/pre_tokenizers.h"
#include "tests/convert/temp_folder.h"
#include "tests/models/rig.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

constexpr int32_t kEnd = 256;

/// 256 bytes and an end token.
Tokenizer byte_tokenizer() {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    spec.tokens.push_back(to_printable_bytes({&c, 1}));
  }
  spec.types.assign(256, TokenType::normal);
  spec.tokens.emplace_back("<|endoftext|>");
  spec.types.push_back(TokenType::control);
  spec.eos = kEnd;
  spec.pre_tokenizer = "gpt-2";
  spec.split_patterns = {std::string(kGpt2Pattern)};
  return Tokenizer(std::move(spec));
}

struct Generator {
  explicit Generator(int64_t context = 100)
      : rig(tiny_model({.architecture = "gpt2", .context = context, .n_vocab = 257}), Rig::exact("cpu")) {}

  GenerateResult operator()(std::string_view prompt, const GenerateOptions& options) {
    pieces.clear();
    const int sequence = rig->open_sequence();
    struct Close {
      Rig& rig;
      int sequence;
      ~Close() { rig->close_sequence(sequence); }
    } close{rig, sequence};
    return generate(*rig, sequence, tokenizer, tokenizer.encode(prompt), options, [&](std::string_view text) {
      pieces.emplace_back(text);
      return pieces.size() < most_pieces;
    });
  }

  Rig rig;
  Tokenizer tokenizer = byte_tokenizer();
  std::vector<std::string> pieces;
  size_t most_pieces = SIZE_MAX;
};

GenerateOptions sampled(int64_t max_tokens, uint64_t seed = 1) {
  GenerateOptions options;
  options.max_tokens = max_tokens;
  options.sampler.seed = seed;
  options.sampler.top_k = 0;
  options.sampler.min_p = 0;
  options.sampler.top_p = 1;
  options.sampler.temperature = 1;
  return options;
}

GenerateOptions greedily(int64_t max_tokens) {
  GenerateOptions options = sampled(max_tokens);
  options.sampler.temperature = 0;
  return options;
}

std::string joined(const std::vector<std::string>& pieces) {
  std::string all;
  for (const std::string& piece : pieces) all += piece;
  return all;
}

TEST(Generate, GreedyIsTheArgmaxOfEachStep) {
  Generator generator;
  const auto result = generator("hello", greedily(12));
  EXPECT_EQ(result.prompt_tokens, 5u);
  ASSERT_LE(result.tokens.size(), 12u);
  std::vector<int32_t> ids = generator.tokenizer.encode("hello");
  for (const int32_t id : result.tokens) {
    const int sequence = generator.rig->open_sequence();
    EXPECT_EQ(id, greedy(generator.rig.last(sequence, ids))) << "fed anew, without the cache of the steps before";
    generator.rig->close_sequence(sequence);
    ids.push_back(id);
  }
}

TEST(Generate, TextIsThatOfTheTokens) {
  Generator generator;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto result = generator("x", sampled(30, seed));
    EXPECT_EQ(joined(generator.pieces), result.text);
    const std::string bytes = generator.tokenizer.decode(result.tokens, {.skip_special = true});
    bool ascii = true;
    for (const char c : bytes) ascii = ascii && static_cast<unsigned char>(c) < 0x80;
    if (ascii) {
      EXPECT_EQ(result.text, bytes);
    }
    EXPECT_EQ(std::ranges::count(result.tokens, kEnd), 0);
    if (result.reason == StopReason::limit) {
      EXPECT_EQ(result.tokens.size(), 30u);
    } else {
      EXPECT_EQ(result.reason, StopReason::end_token);
    }
  }
}

TEST(Generate, TheSeedDecides) {
  Generator generator;
  const auto a = generator("x", sampled(20, 1)), again = generator("x", sampled(20, 1)),
             other = generator("x", sampled(20, 2));
  EXPECT_EQ(a.tokens, again.tokens);
  EXPECT_NE(a.tokens, other.tokens);
}

TEST(Generate, StopsBeforeAStopString) {
  Generator generator;
  const auto whole = generator("hello", greedily(20));
  ASSERT_GE(whole.text.size(), 8u);
  GenerateOptions options = greedily(20);
  options.stop = {whole.text.substr(4, 3)};
  const auto result = generator("hello", options);
  EXPECT_EQ(result.reason, StopReason::stop_string);
  EXPECT_EQ(result.text, whole.text.substr(0, whole.text.find(options.stop[0])));
  EXPECT_EQ(joined(generator.pieces), result.text);
}

TEST(Generate, TheCallerMayStop) {
  Generator generator;
  generator.most_pieces = 3;
  const auto result = generator("hello", greedily(50));
  EXPECT_EQ(result.reason, StopReason::caller);
  EXPECT_EQ(generator.pieces.size(), 3u);
}

TEST(Generate, EndsWhenTheContextIsFull) {
  Generator generator(10);
  const auto result = generator("hello", greedily(-1));
  EXPECT_EQ(result.reason, StopReason::context_full);
  EXPECT_EQ(result.tokens.size(), 6u) << "the sixth is sampled from the tenth cached, and not fed";
  const auto brim = generator("0123456789", greedily(-1));
  EXPECT_EQ(brim.tokens.size(), 1u);
  EXPECT_EQ(brim.reason, StopReason::context_full);
}

TEST(Generate, NothingIsAskedNothingIsRun) {
  Generator generator;
  const auto result = generator("hello", greedily(0));
  EXPECT_TRUE(result.tokens.empty());
  EXPECT_EQ(result.reason, StopReason::limit);
  EXPECT_EQ(generator.rig->n_plans(), 0u);
}

TEST(Generate, PromptsThatCannotBeContinuedAreErrors) {
  Generator generator(10);
  expect_message(error_of([&] { generator("", greedily(5)); }), "the prompt is empty");
  expect_message(error_of([&] { generator("0123456789a", greedily(5)); }),
                 "the prompt has 11 tokens, the context has room for 10");
  EXPECT_EQ(generator("0123456", greedily(3)).tokens.size(), 3u) << "usable after the errors";
}

TEST(Generate, WrongSamplerOptionsAreErrors) {
  Generator generator;
  GenerateOptions options = greedily(1);
  options.sampler.top_p = 2;
  expect_message(error_of([&] { generator("x", options); }), "top_p is 2");
}

}  // namespace
}  // namespace weft
