#include "models/session/tokenizer_spec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "graph/error.h"
#include "models/session/pre_tokenizers.h"

namespace weft {
namespace {

Metadata byte_level() {
  Metadata m;
  m.set("tokenizer.ggml.model", std::string("gpt2"));
  m.set("tokenizer.ggml.pre", std::string("llama-bpe"));
  m.set("tokenizer.ggml.tokens",
        MetaArray(std::vector<std::string>{"a", "b", "ab", "<|begin_of_text|>", "<|eot_id|>"}));
  m.set("tokenizer.ggml.token_type", MetaArray(std::vector<int32_t>{1, 1, 1, 3, 3}));
  m.set("tokenizer.ggml.merges", MetaArray(std::vector<std::string>{"a b"}));
  m.set("tokenizer.ggml.bos_token_id", uint32_t{3});
  return m;
}

Metadata sentencepiece() {
  Metadata m;
  m.set("tokenizer.ggml.model", std::string("llama"));
  m.set("tokenizer.ggml.tokens", MetaArray(std::vector<std::string>{"<unk>", "<s>", "</s>", "<0x0A>", "a"}));
  m.set("tokenizer.ggml.scores", MetaArray(std::vector<float>{0, 0, 0, 0, -1}));
  m.set("tokenizer.ggml.token_type", MetaArray(std::vector<int32_t>{2, 3, 3, 6, 1}));
  m.set("tokenizer.ggml.bos_token_id", uint32_t{1});
  m.set("tokenizer.ggml.eos_token_id", uint32_t{2});
  return m;
}

std::string error_of(const Metadata& metadata) {
  try {
    TokenizerSpec::from_metadata(metadata);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(TokenizerSpec, NoVocabularyIsNotAnError) {
  Metadata m;
  EXPECT_FALSE(TokenizerSpec::from_metadata(m).has_value());
  for (const char* model : {"none", "no_vocab"}) {
    m.set("tokenizer.ggml.model", std::string(model));
    EXPECT_FALSE(TokenizerSpec::from_metadata(m).has_value());
  }
}

TEST(TokenizerSpec, ReadsByteLevelWithWhatTheNameImplies) {
  const TokenizerSpec spec = TokenizerSpec::from_metadata(byte_level()).value();
  EXPECT_EQ(spec.kind, TokenizerKind::byte_level_bpe);
  EXPECT_TRUE(spec.ignore_merges);
  EXPECT_TRUE(spec.add_bos);  // implied by llama-bpe
  EXPECT_FALSE(spec.add_space_prefix);
  EXPECT_EQ(spec.split_patterns.size(), 1u);
  EXPECT_EQ(spec.end_of_turn, std::vector<int32_t>{4});  // by its name
}

TEST(TokenizerSpec, ReadsSentencePieceWithItsDefaults) {
  const TokenizerSpec spec = TokenizerSpec::from_metadata(sentencepiece()).value();
  EXPECT_TRUE(spec.add_bos);
  EXPECT_TRUE(spec.add_space_prefix);
  EXPECT_EQ(spec.space_prefix, SpacePrefix::always);
  EXPECT_TRUE(spec.split_patterns.empty());
}

TEST(TokenizerSpec, RoundTrip) {
  for (const Metadata& m : {byte_level(), sentencepiece()}) {
    TokenizerSpec spec = TokenizerSpec::from_metadata(m).value();
    spec.padding = 0;
    spec.add_bos = false;
    spec.ignore_merges = !spec.ignore_merges;
    spec.normalize_nfc = true;
    spec.add_space_prefix = true;
    spec.space_prefix = SpacePrefix::first_unless_space;
    spec.end_of_turn = {0, 3};
    spec.added_rules = {{.id = 4, .lstrip = true, .normalized = true}};
    spec.split_patterns = {"[0-9]"};
    spec.pre_tokenizer.clear();
    Metadata out = byte_level();  // what it held before must not shine through
    spec.write_metadata(out);
    const TokenizerSpec again = TokenizerSpec::from_metadata(out).value();
    EXPECT_EQ(again.kind, spec.kind);
    EXPECT_EQ(again.tokens, spec.tokens);
    EXPECT_EQ(again.types, spec.types);
    EXPECT_EQ(again.scores, spec.scores);
    EXPECT_EQ(again.merges, spec.merges);
    EXPECT_EQ(again.pre_tokenizer, "");
    EXPECT_EQ(again.split_patterns, spec.split_patterns);
    EXPECT_EQ(again.ignore_merges, spec.ignore_merges);
    EXPECT_TRUE(again.normalize_nfc);
    EXPECT_TRUE(again.add_space_prefix);
    EXPECT_EQ(again.space_prefix, spec.space_prefix);
    EXPECT_FALSE(again.add_bos);
    EXPECT_EQ(again.bos, spec.bos);
    EXPECT_EQ(again.eos, spec.eos);
    EXPECT_EQ(again.padding, spec.padding);
    EXPECT_EQ(again.end_of_turn, spec.end_of_turn);
    EXPECT_EQ(again.added_rules, spec.added_rules);
  }
}

// Programs that know GGUF only must find nothing of ours where the standard keys say it all.
TEST(TokenizerSpec, WritesNoPrivateKeysWithoutNeed) {
  for (const Metadata& m : {byte_level(), sentencepiece()}) {
    Metadata out;
    TokenizerSpec::from_metadata(m)->write_metadata(out);
    for (const auto& [key, value] : out.entries()) EXPECT_FALSE(key.starts_with("tokenizer.weft.")) << key;
    EXPECT_TRUE(out.has("tokenizer.ggml.pre"));
  }
}

TEST(TokenizerSpec, EveryKnownNameIsFoundAgain) {
  for (const PreTokenizer& known : pre_tokenizers()) {
    const std::vector<std::string> patterns(known.patterns.begin(), known.patterns.end());
    const PreTokenizer* named = name_pre_tokenizer(patterns, known.ignore_merges, known.normalize_nfc);
    ASSERT_NE(named, nullptr) << known.name;
    EXPECT_EQ(named->patterns, known.patterns);
    EXPECT_EQ(find_pre_tokenizer(known.name)->name, known.name);
  }
  EXPECT_EQ(find_pre_tokenizer("nonsense"), nullptr);
}

TEST(TokenizerSpec, InconsistentFilesAreErrors) {
  using Change = std::function<void(Metadata&)>;
  const auto set = [](std::string key, MetaValue value) -> Change {
    return [=](Metadata& m) { m.set("tokenizer.ggml." + key, value); };
  };
  using Strings = std::vector<std::string>;
  using Ints = std::vector<int32_t>;
  const std::vector<std::pair<Change, const char*>> cases = {
      {set("model", std::string("bert")), "bert"},
      {set("model", int32_t{1}), "expected a string"},
      {set("tokens", MetaArray(Strings{})), "empty"},
      {set("tokens", MetaArray(Ints{1})), "array of strings"},
      {set("scores", MetaArray(std::vector<float>{1})), "1 scores for 5"},
      {set("scores", MetaArray(std::vector<float>{0, 0, 0, 0, NAN})), "token 4 is not finite"},
      {[](Metadata& m) { m.erase("tokenizer.ggml.scores"); }, "neither scores nor merges"},
      {set("token_type", MetaArray(Ints{1})), "1 entries"},
      {set("token_type", MetaArray(Ints{1, 1, 1, 1, 7})), "is 7"},
      {set("token_type", MetaArray(Ints{2, 3, 3, 6, 6})), "<0xHH>"},
      {set("tokens", MetaArray(Strings{"<unk>", "<s>", "</s>", "<0x0A0>", "a"})), "<0xHH>"},
      {set("tokens", MetaArray(Strings{"<unk>", "<s>", "</s>", "<0x+A>", "a"})), "<0xHH>"},
      {set("merges", MetaArray(Strings{"ab"})), "left and a right"},
      {set("merges", MetaArray(Strings{" b"})), "left and a right"},
      {set("merges", MetaArray(Strings{"a "})), "left and a right"},
      {set("merges", MetaArray(Strings{"a b c"})), "left and a right"},
      {set("bos_token_id", uint32_t{5}), "bos_token_id is 5"},
      {set("eos_token_id", int32_t{-2}), "eos_token_id is -2"},
      {set("eot_token_id", uint64_t{1} << 40), "eot_token_id"},
      {set("add_eos_token", int32_t{1}), "boolean"},
      {[](Metadata& m) {
         m.erase("tokenizer.ggml.bos_token_id");
         m.set("tokenizer.ggml.add_bos_token", true);
       },
       "there is none"},
      {[](Metadata& m) { m.set("tokenizer.weft.space_prefix", std::string("maybe")); }, "maybe"},
      {[](Metadata& m) { m.set("tokenizer.weft.added_token_ids", MetaArray(Ints{9})); }, "is 9"},
      {[](Metadata& m) { m.set("tokenizer.weft.end_of_turn_ids", MetaArray(Ints{-1})); }, "is -1"},
  };
  for (const auto& [change, word] : cases) {
    Metadata m = sentencepiece();
    change(m);
    EXPECT_NE(error_of(m).find(word), std::string::npos) << word << ": " << error_of(m);
  }
  Metadata m = byte_level();
  m.set("tokenizer.ggml.pre", std::string("nonsense"));
  EXPECT_NE(error_of(m).find("qwen2"), std::string::npos) << "known names are listed";
}

}  // namespace
}  // namespace weft
