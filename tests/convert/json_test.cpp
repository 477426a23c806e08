#include "convert/json.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "convert/json_parse.h"
#include "convert/mapped_file.h"
#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

template <typename T>
T get(const Metadata& metadata, const std::string& key) {
  const MetaValue* value = metadata.find(key);
  if (value == nullptr || !std::holds_alternative<T>(*value)) {
    ADD_FAILURE() << key << " is " << (value ? kind_of(*value) : "missing");
    return {};
  }
  return std::get<T>(*value);
}

template <typename T>
std::vector<T> items(const Metadata& metadata, const std::string& key) {
  const auto array = get<MetaArray>(metadata, key);
  if (!std::holds_alternative<std::vector<T>>(array)) {
    ADD_FAILURE() << key << " is " << kind_of(array);
    return {};
  }
  return std::get<std::vector<T>>(array);
}

TEST(FlattenJson, GivesEveryScalarItsKind) {
  const Metadata m = flatten_json(R"({"i": -3, "big": 18446744073709551615, "edge": 9223372036854775807,
      "f": 1e-5, "one": 1.0, "t": true, "s": "\u00e9", "n": null, "e": {}})",
                                  "config.json");
  EXPECT_EQ(get<int64_t>(m, "i"), -3);
  EXPECT_EQ(get<uint64_t>(m, "big"), UINT64_MAX);
  EXPECT_EQ(get<int64_t>(m, "edge"), INT64_MAX);
  EXPECT_EQ(get<double>(m, "f"), 1e-5);
  EXPECT_EQ(get<double>(m, "one"), 1.0);
  EXPECT_EQ(get<bool>(m, "t"), true);
  EXPECT_EQ(get<std::string>(m, "s"), "\xC3\xA9");
  EXPECT_FALSE(m.has("n"));
  EXPECT_EQ(m.entries().size(), 7u);
}

TEST(FlattenJson, JoinsKeysWithDots) {
  const Metadata m = flatten_json(R"({"rope_parameters": {"rope_theta": 1e4, "x": {"y": 2}}})", "c");
  EXPECT_EQ(get<double>(m, "rope_parameters.rope_theta"), 1e4);
  EXPECT_EQ(get<int64_t>(m, "rope_parameters.x.y"), 2);
}

TEST(FlattenJson, ArraysOfOneKindStayArrays) {
  const Metadata m = flatten_json(R"({"i": [1, -2], "u": [1, 18446744073709551615], "f": [0.5, 2], "s": ["a", ""],
      "b": [true, false], "e": []})",
                                  "c");
  EXPECT_EQ(items<int64_t>(m, "i"), (std::vector<int64_t>{1, -2}));
  EXPECT_EQ(items<uint64_t>(m, "u"), (std::vector<uint64_t>{1, UINT64_MAX}));
  EXPECT_EQ(items<double>(m, "f"), (std::vector<double>{0.5, 2}));
  EXPECT_EQ(items<std::string>(m, "s"), (std::vector<std::string>{"a", ""}));
  EXPECT_EQ(items<bool>(m, "b"), (std::vector<bool>{true, false}));
  EXPECT_EQ(items<int64_t>(m, "e"), std::vector<int64_t>{});
}

TEST(FlattenJson, OtherArraysAreNumbered) {
  const Metadata m =
      flatten_json(R"({"a": [{"b": 1}, {"b": 2}], "mixed": [1, "x", null, true], "nest": [[1], [2, 3]]})", "c");
  EXPECT_EQ(get<int64_t>(m, "a.1.b"), 2);
  EXPECT_EQ(get<std::string>(m, "mixed.1"), "x");
  EXPECT_FALSE(m.has("mixed.2"));
  EXPECT_EQ(get<bool>(m, "mixed.3"), true);
  EXPECT_EQ(items<int64_t>(m, "nest.1"), (std::vector<int64_t>{2, 3}));
}

TEST(FlattenJson, RefusesWithAReason) {
  const auto repeat = [](const std::string& s, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += s;
    return out;
  };
  const struct {
    std::string text, fragment;
  } cases[] = {
      {"", "c: parse error at line 1, column 1"},
      {"{\"a\": }", "parse error at line 1"},
      {"{\"a\":\n 1,\n}", "parse error at line 3"},
      {"[1]", "c: is a JSON array, expected an object"},
      {"{\"a\": 1} x", "parse error"},
      {"{\"a\": NaN}", "parse error"},
      {"{\"a\": 1e999}", "number overflow"},
      {"{\"a\": \"\xFF\"}", "invalid"},
      {"{\"a\": \"\x01\"}", "parse error"},
      {repeat("[", 65), "c: nests deeper than 64 levels"},
      {repeat("[", 1'000'000), "nests deeper"},
      {repeat("{\"a\":", 65) + "1" + repeat("}", 65), "nests deeper"},
      {"{\"a.b\": 1, \"a\": {\"b\": 2}}", "key a.b occurs twice"},
      {"{\"" + std::string(1025, 'k') + "\": 1}", "is longer than 1024 bytes"},
  };
  for (const auto& c : cases) expect_message(error_of([&] { flatten_json(c.text, "c"); }), c.fragment);
}

TEST(FlattenJson, DepthCountsBracketsOutsideStringsOnly) {
  std::string brackets(200, '[');
  EXPECT_EQ(flatten_json("{\"s\": \"\\\"" + brackets + "\"}", "c").text("s"), "\"" + brackets);
  std::string deep = "{\"a\": ";
  for (int i = 0; i < 63; ++i) deep += "[";
  for (int i = 0; i < 63; ++i) deep += "]";
  EXPECT_NO_THROW(flatten_json(deep + "}", "c"));  // 64 levels
}

TEST(ParseJson, DuplicateKeysAreRefusedWhereAsked) {
  const std::string text = R"({"a": {"k": 1}, "b": {"k": 2}, "c": {"k": 1, "k": 2}})";
  EXPECT_EQ(parse_json(text, "t")["c"]["k"], 2);
  EXPECT_EQ(error_of([&] { parse_json(text, "t", DuplicateKeys::refuse); }), "t: k occurs twice");
  EXPECT_NO_THROW(parse_json(R"({"a": {"k": 1}, "b": [{"k": 2}, {"k": 3}], "k": 4})", "t", DuplicateKeys::refuse));
}

TEST(FlattenJson, EveryTruncationIsAnError) {
  const std::string text = R"({"a": [1, 2.5, "x\u00e9"], "b": {"c": true}})";
  for (size_t n = 0; n < text.size(); ++n) EXPECT_THROW(flatten_json(text.substr(0, n), "c"), Error) << n;
}

TEST(FlattenJson, ReadsTheBundledConfig) {
  const std::string path = shared_folder() + "/models/union/config.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const MappedFile file(path);
  const Metadata m = flatten_json(file.text(), path);
  EXPECT_EQ(m.text("model_type"), "gpt2");
  EXPECT_EQ(m.integer("n_embd"), 320);
  EXPECT_EQ(m.real("layer_norm_epsilon"), 1e-5);
  EXPECT_FALSE(m.has("n_inner"));  // null
  EXPECT_EQ(m.texts("architectures"), std::vector<std::string>{"GPT2LMHeadModel"});
}

}  // namespace
}  // namespace weft
