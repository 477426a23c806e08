// Small tokenizers that have between them every stage weft reads, each with what Hugging Face tokenizers makes of hard
// strings. tests/data/tokenizers/README.md says how they were made.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "convert/tokenizer_json.h"
#include "graph/error.h"
#include "models/session/charsmap.h"
#include "models/session/tokenizer.h"
#include "models/session/utf8.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kFolder = fs::path(WEFT_SOURCE_DIR) / "tests/data/tokenizers";

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    if (entry.path().extension() == ".json") out.push_back(entry.path().stem());
  }
  std::sort(out.begin(), out.end());
  return out;
}

json load(const std::string& name) {
  std::ifstream in(kFolder / (name + ".json"));
  return json::parse(in);
}

/// As Rust shows bytes that are not UTF-8.
std::string whole_characters(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    append_utf8(out, c.state == Utf8State::valid ? c.code : U'\uFFFD');
    at += c.size;
  }
  return out;
}

class SmallTokenizer : public ::testing::TestWithParam<std::string> {
 protected:
  static void run_cases(const Tokenizer& tokenizer, const json& cases) {
    ASSERT_FALSE(cases.empty());
    for (const json& c : cases) {
      const auto text = c.at("text").get<std::string>();
      const auto ids = tokenizer.encode(text, {.add_special = false});
      EXPECT_EQ(ids, c.at("ids").get<std::vector<int32_t>>()) << json(text);
      EXPECT_EQ(whole_characters(tokenizer.decode(ids)), c.at("decoded").get<std::string>()) << json(text);
    }
  }
};

TEST_P(SmallTokenizer, DoesAsHuggingFace) {
  const json root = load(GetParam());
  run_cases(Tokenizer(read_tokenizer_json(root.at("tokenizer").dump(), GetParam())), root.at("cases"));
}

// What GGUF has no key for is kept under tokenizer.weft.*: the file must give the same ids as the folder.
TEST_P(SmallTokenizer, SurvivesGgufMetadata) {
  const json root = load(GetParam());
  const TokenizerSpec spec = read_tokenizer_json(root.at("tokenizer").dump(), GetParam());
  Metadata metadata;
  metadata.set("tokenizer.weft.normalizers", MetaArray(std::vector<std::string>{"lowercase"}));  // of an earlier one
  metadata.set("tokenizer.weft.pre_tokenizers", MetaArray(std::vector<std::string>{}));
  spec.write_metadata(metadata);
  run_cases(Tokenizer(TokenizerSpec::from_metadata(metadata).value()), root.at("cases"));
}

INSTANTIATE_TEST_SUITE_P(Files, SmallTokenizer, ::testing::ValuesIn(names()),
                         [](const auto& test) { return test.param; });

TEST(SmallTokenizers, StandardKeysAloneWhereTheySuffice) {
  for (const char* name : {"falcon", "gemma", "unigram_plain"}) {
    Metadata metadata;
    read_tokenizer_json(load(name).at("tokenizer").dump(), name).write_metadata(metadata);
    for (const auto& [key, value] : metadata.entries()) {
      // An added token's rule has no other place.
      EXPECT_TRUE(!key.starts_with("tokenizer.weft.") || key.find("added_token") != key.npos) << name << " " << key;
    }
  }
}

// Each byte of a charsmap changed, and each cut: an Error or some text, never a read outside it.
TEST(Charsmap, HostileBytes) {
  const TokenizerSpec spec = read_tokenizer_json(load("t5").at("tokenizer").dump(), "t5");
  ASSERT_GT(spec.charsmap.size(), 1000u);
  const std::string text = "\u00A0\uFB01 \u2460e\u0301x \u0130A";
  EXPECT_NE(Charsmap(spec.charsmap).apply(text, 1000), text);
  const auto survives = [&](const std::string& bytes) {
    try {
      Charsmap(bytes).apply(text, 1000);
    } catch (const Error&) {
    }
  };
  for (size_t at = 0; at < spec.charsmap.size(); at += 3) {
    std::string bytes = spec.charsmap;
    for (const int flip : {0x01, 0x80, 0xFF}) {
      bytes[at] = static_cast<char>(spec.charsmap[at] ^ flip);
      survives(bytes);
    }
    survives(spec.charsmap.substr(0, at));
  }
  EXPECT_THROW(Charsmap(spec.charsmap).apply(text, 3), Error);
  EXPECT_THROW(Charsmap("\xFF\xFF\xFF\xFF"), Error);
}

}  // namespace
}  // namespace weft
