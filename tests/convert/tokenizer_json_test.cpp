#include "convert/tokenizer_json.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "convert/oniguruma.h"
#include "graph/error.h"
#include "models/session/tokenizer.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string error_of(const auto& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TokenizerSpec through_metadata(const TokenizerSpec& spec) {
  Metadata metadata;
  spec.write_metadata(metadata);
  return TokenizerSpec::from_metadata(metadata).value();
}

// A complete small tokenizer: printable ASCII by bytes, one merge, one special token.
json small() {
  json vocab = json::object();
  int id = 0;
  for (char c = '!'; c <= '~'; ++c) vocab[std::string(1, c)] = id++;
  vocab["Ġ"] = id++;   // 94
  vocab["ab"] = id++;  // 95
  json root = json::parse(R"({"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
    "added_tokens": [{"id": 96, "content": "<|x|>", "single_word": false, "lstrip": false, "rstrip": false,
                      "normalized": false, "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "merges": ["a b"]}})");
  root["model"]["vocab"] = vocab;
  return root;
}

TokenizerSpec read(const json& root, std::string_view config = {}) {
  return read_tokenizer_json(root.dump(), "t.json", config);
}

class GoldenTokenizer : public ::testing::TestWithParam<std::string> {
 protected:
  static fs::path folder() { return fs::path(WEFT_SOURCE_DIR) / "../shared/golden/tokenizers" / GetParam(); }

  static TokenizerSpec load() {
    const fs::path config = folder() / "tokenizer_config.json";
    return read_tokenizer_json(read_file(folder() / "tokenizer.json"), "tokenizer.json",
                               fs::exists(config) ? read_file(config) : "");
  }

  static void run_cases(const Tokenizer& tokenizer) {
    const json cases = json::parse(read_file(folder() / "cases.json"));
    ASSERT_FALSE(cases.empty());
    for (const json& c : cases) {
      const auto text = c.at("text").get<std::string>();
      const auto ids = tokenizer.encode(text, {.add_special = false});
      EXPECT_EQ(ids, c.at("ids").get<std::vector<int32_t>>()) << text;
      EXPECT_EQ(tokenizer.decode(ids), c.at("decoded").get<std::string>()) << text;
    }
  }

  void SetUp() override {
    if (!fs::exists(folder())) GTEST_SKIP() << "no golden files at " << folder();
  }
};

TEST_P(GoldenTokenizer, EncodesAndDecodesAsHuggingFace) { run_cases(Tokenizer(load())); }

TEST_P(GoldenTokenizer, SurvivesGgufMetadata) {
  const TokenizerSpec spec = load();
  const TokenizerSpec again = through_metadata(spec);
  EXPECT_EQ(again.split_patterns, spec.split_patterns);
  EXPECT_EQ(again.pre_tokenizer, spec.pre_tokenizer);
  EXPECT_EQ(again.end_of_turn, spec.end_of_turn);
  EXPECT_EQ(again.bos, spec.bos);
  EXPECT_EQ(again.eos, spec.eos);
  EXPECT_EQ(again.unknown, spec.unknown);
  EXPECT_EQ(again.add_bos, spec.add_bos);
  run_cases(Tokenizer(again));
  if (again.kind == TokenizerKind::byte_level_bpe) return;
  TokenizerSpec scored = again;  // as programs read it that know SentencePiece by its scores only
  scored.merges.clear();
  run_cases(Tokenizer(scored));
}

TEST_P(GoldenTokenizer, KeepsEveryByte) {
  TokenizerSpec spec = load();
  spec.normalize_nfc = false;
  const Tokenizer tokenizer(spec);
  uint32_t state = 1;
  for (int round = 0; round < 200; ++round) {
    std::string bytes;
    for (int i = 0; i < round; ++i) {
      state = state * 1664525 + 1013904223;
      bytes += static_cast<char>(state >> 24);
    }
    if (tokenizer.spec().kind == TokenizerKind::sentencepiece_bpe && bytes.find("\u2581") != bytes.npos) continue;
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(bytes, {.add_special = false})), bytes) << "round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenTokenizer, ::testing::Values("gpt2", "llama2", "llama3", "qwen3"),
                         [](const auto& test) { return test.param; });

TEST(TokenizerJson, TellsNamesAndSpecialTokens) {
  const std::map<std::string, std::string> names = {{"gpt2", "gpt-2"}, {"llama3", "llama-bpe"}, {"qwen3", "qwen2"}};
  const fs::path root = fs::path(WEFT_SOURCE_DIR) / "../shared/golden/tokenizers";
  if (!fs::exists(root)) GTEST_SKIP() << "no golden files at " << root;
  for (const auto& [folder, name] : names) {
    const TokenizerSpec spec = read_tokenizer_json(read_file(root / folder / "tokenizer.json"), folder);
    EXPECT_EQ(spec.pre_tokenizer, name);
    EXPECT_TRUE(spec.eos.has_value()) << folder;
  }
  const TokenizerSpec llama = read_tokenizer_json(read_file(root / "llama2/tokenizer.json"), "llama2");
  EXPECT_TRUE(llama.add_bos);
  EXPECT_EQ(llama.bos, 1);
  EXPECT_EQ(llama.types[3], TokenType::byte);
  EXPECT_EQ(Tokenizer(llama).encode("Hello world"), (std::vector<int32_t>{1, 22557, 1526}));
}

TEST(TokenizerJson, ReadsTheBundledModel) {
  const fs::path path = fs::path(WEFT_SOURCE_DIR) / "../shared/models/union/tokenizer.json";
  if (!fs::exists(path)) GTEST_SKIP() << "no file at " << path;
  const Tokenizer tokenizer(
      read_tokenizer_json(read_file(path), "union", read_file(path.parent_path() / "tokenizer_config.json")));
  EXPECT_EQ(tokenizer.size(), 4096);
  EXPECT_TRUE(tokenizer.is_end(0));
  const std::string text = "We the people… 'tis  naïve\n\n😀\xFF";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST(TokenizerJson, ReadsASmallOne) {
  const Tokenizer tokenizer(read(small()));
  EXPECT_EQ(tokenizer.encode("ab b<|x|>"), (std::vector<int32_t>{95, 94, 'b' - '!', 96}));
  EXPECT_EQ(tokenizer.encode("<|x|>", {.parse_special = false}).size(), 5u);
  EXPECT_TRUE(tokenizer.is_special(96));
}

TEST(TokenizerJson, MergesAsPairs) {
  json root = small();
  root["model"]["merges"] = json::parse(R"([["a", "b"]])");
  EXPECT_EQ(read(root).merges, std::vector<std::string>{"a b"});
}

TEST(TokenizerJson, TemplateDecidesWhatIsAdded) {
  json root = small();
  root["post_processor"] = json::parse(R"({"type": "TemplateProcessing", "pair": [],
    "single": [{"SpecialToken": {"id": "<|x|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
               {"SpecialToken": {"id": "<|x|>", "type_id": 0}}],
    "special_tokens": {"<|x|>": {"id": "<|x|>", "ids": [96], "tokens": ["<|x|>"]}}})");
  EXPECT_EQ(Tokenizer(read(root)).encode("ab"), (std::vector<int32_t>{96, 95, 96}));
}

TEST(TokenizerJson, ConfigNamesTokens) {
  const TokenizerSpec spec =
      read(small(), R"({"bos_token": {"content": "<|x|>"}, "eos_token": "<|x|>", "add_bos_token": true})");
  EXPECT_EQ(spec.bos, 96);
  EXPECT_EQ(spec.eos, 96);
  EXPECT_TRUE(spec.add_bos);
  EXPECT_NE(error_of([] { read(small(), R"({"bos_token": "<none>"})"); }).find("<none>"), std::string::npos);
}

TEST(TokenizerJson, AddedTokenFlagsSurviveMetadata) {
  json root = small();
  root["added_tokens"][0]["rstrip"] = true;
  const TokenizerSpec spec = read(root);
  ASSERT_EQ(spec.added_rules.size(), 1u);
  EXPECT_EQ(through_metadata(spec).added_rules, spec.added_rules);
}

TEST(TokenizerJson, UnknownPatternsSurviveMetadata) {
  json root = small();
  root["pre_tokenizer"] = json::parse(R"({"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": "[0-9]|[a-z]+"}, "behavior": "Isolated", "invert": false},
    {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})");
  const TokenizerSpec spec = read(root);
  EXPECT_EQ(spec.pre_tokenizer, "");
  EXPECT_EQ(through_metadata(spec).split_patterns, std::vector<std::string>{"[0-9]|[a-z]+"});
}

TEST(TokenizerJson, MetaspaceSplitsWords) {
  json root = small();
  json& vocab = root["model"]["vocab"];
  vocab = {{"▁", 0}, {"a", 1}, {"b", 2}, {"▁a", 3}, {"a▁", 4}, {"<unk>", 5}};
  root["added_tokens"] = json::array();
  root["model"]["merges"] = {"a ▁", "▁ a"};
  root["model"]["unk_token"] = "<unk>";
  root["model"]["fuse_unk"] = true;
  root["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}};
  root["decoder"] = root["pre_tokenizer"];
  const Tokenizer tokenizer(through_metadata(read(root)));
  EXPECT_EQ(tokenizer.encode("a ab?!"), (std::vector<int32_t>{3, 3, 2, 5}));  // "a▁" would cross a word's end
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a ab")), "a ab");
}

TEST(TokenizerJson, NamesWhatItDoesNotDo) {
  const auto error_with = [](const char* pointer, const char* value) {
    json root = small();
    root[json::json_pointer(pointer)] = json::parse(value);
    return error_of([&] {
      const TokenizerSpec spec = read(root);
      try {
        Tokenizer tokenizer(spec);
      } catch (const Error& error) {
        throw error.at("t.json");
      }
    });
  };
  const std::vector<std::vector<const char*>> cases = {
      // where, what, a word of the message
      {"/model/type", "\"WordPiece\"", "WordPiece"},
      {"/model/type", "\"Unigram\"", "unknown key"},
      {"/model/dropout", "0.1", "dropout"},
      {"/model/surprise", "1", "surprise"},
      {"/model/continuing_subword_prefix", "\"##\"", "continuing_subword_prefix"},
      {"/model/byte_fallback", "true", "byte_fallback"},
      {"/model/unk_token", "\"none\"", "none"},
      {"/model/merges", R"(["a"])", "left and a right"},
      {"/model/merges", R"([["a"]])", "left, right"},
      {"/model/merges", R"([["a b", "c"]])", "space"},
      {"/model/merges", "{}", "not an array"},
      {"/model/vocab", "[]", "not an object"},
      {"/model/vocab/a", "-1", "out of range"},
      {"/model/vocab/a", "2000000000", "out of range"},
      {"/model/vocab/a", "1e300", "not an integer"},
      {"/model/vocab/a", "18446744073709551615", "out of range"},
      {"/model/vocab/a", "1", "stands for"},
      {"/added_tokens/0/id", "5", "stands for"},
      {"/added_tokens/0/content", "\"a\"", "has the ids"},
      {"/added_tokens/0/content", "7", "expected a string"},
      {"/added_tokens", "7", "not an array"},
      {"/normalizer", R"({"type": "Nmt"})", "Nmt"},
      {"/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "BertNormalizer"}]})", "BertNormalizer"},
      {"/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "not base64"})", "base64"},
      {"/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "////fw=="})", "trie"},
      {"/normalizer", R"({"type": "Replace", "pattern": {"Regex": "(a"}, "content": "b"})", "regex"},
      {"/normalizer", R"({"type": "Replace", "pattern": {"String": ""}, "content": "b"})", "empty"},
      {"/pre_tokenizer", R"({"type": "UnicodeScripts"})", "UnicodeScripts"},
      {"/pre_tokenizer", R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Often"})", "Often"},
      {"/pre_tokenizer", "null", "without a pre_tokenizer ByteLevel"},
      {"/decoder", R"({"type": "Strip", "content": " ", "start": -1, "stop": 0})", "out of range"},
      {"/pre_tokenizer/surprise", "1", "surprise"},
      {"/decoder", R"({"type": "WordPiece"})", "WordPiece"},
      {"/post_processor", R"({"type": "BertProcessing"})", "BertProcessing"},
      {"/version", "\"2.0\"", "version"},
      {"/surprise", "1", "surprise"},
  };
  for (const auto& c : cases) {
    const std::string error = error_with(c[0], c[1]);
    EXPECT_TRUE(error.starts_with("t.json: ")) << c[0] << " " << c[1] << ": " << error;
    EXPECT_NE(error.find(c[2]), std::string::npos) << c[0] << " " << c[1] << ": " << error;
  }
}

TEST(TokenizerJson, MergesOfUnknownTokensAreErrors) {
  json root = small();
  root["model"]["merges"] = {"a b", "q zz"};
  EXPECT_NE(error_of([&] { Tokenizer t(read(root)); }).find("merge 1"), std::string::npos);
  root["model"]["merges"] = {"a c"};  // both parts, but not what they make
  EXPECT_NE(error_of([&] { Tokenizer t(read(root)); }).find("\"ac\""), std::string::npos);
}

// Every cut of a file is an Error, never a crash.
TEST(TokenizerJson, TruncatedFiles) {
  const std::string text = small().dump();
  for (size_t n = 0; n < text.size(); n += 7) {
    EXPECT_NE(error_of([&] { read_tokenizer_json(text.substr(0, n), "cut"); }), "no error") << n;
  }
  EXPECT_NE(error_of([&] { read_tokenizer_json(std::string(100000, '['), "deep"); }), "no error");
  for (const char* wrong : {"", "null", "[]", "7", "\"x\"", "{}"}) {
    EXPECT_NE(error_of([&] { read_tokenizer_json(wrong, "wrong"); }), "no error") << wrong;
  }
}

// Any value replaced by one of another type is an Error or still reads, never a crash.
TEST(TokenizerJson, WrongTypes) {
  json root = small();
  root["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"ab", 2}};
  root["added_tokens"][0]["id"] = 3;
  root["normalizer"] = json::parse(R"({"type": "Sequence", "normalizers": [{"type": "NFC"}]})");
  const json flat = root.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    for (const json& other : {json(nullptr), json(true), json(-1), json(1.5), json("x"), json::array(), json::object(),
                              json::array({json::array()})}) {
      json changed = root;
      changed[json::json_pointer(pointer)] = other;
      error_of([&] { Tokenizer(read(changed)).encode("ab"); });
    }
  }
}

TEST(Oniguruma, FlattensNestedSetsAndRefusesTheRest) {
  EXPECT_EQ(pcre_from_oniguruma(R"( ?[^(\s|[.,!?]])]+)"), R"( ?[^(\s|.,!?])]+)");
  EXPECT_EQ(pcre_from_oniguruma(R"([!\[\]^]+\[)"), R"([!\[\]^]+\[)");
  EXPECT_EQ(pcre_from_oniguruma("[[:alpha:]x]"), "[[:alpha:]x]");
  EXPECT_EQ(pcre_from_oniguruma(R"(\s+$)"), R"((?m)\s+$)");
  EXPECT_EQ(pcre_from_oniguruma(R"([\w.]\W)"),
            R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}.][^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])");
  for (const char* pattern : {R"(\h)", R"(\B)", R"([a\W])", "[a&&b]", "[a[^b]]", "(?m)a"})
    EXPECT_THROW(pcre_from_oniguruma(pattern), Error);
  EXPECT_EQ(quote_regex("a b.é"), R"(a\ b\.é)");
}

}  // namespace
}  // namespace weft
