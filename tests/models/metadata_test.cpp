#include "models/metadata.h"

#include <gtest/gtest.h>

#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

TEST(Metadata, KeepsTheOrderOfKeys) {
  Metadata m;
  m.set("b", uint32_t{1});
  m.set("a", 2.5);
  m.set("c", true);
  m.set("a", std::string("replaced in place"));
  const auto keys = [&] {
    std::string all;
    for (const auto& [key, value] : m.entries()) all += key;
    return all;
  };
  EXPECT_EQ(keys(), "bac");
  EXPECT_EQ(m.text("a"), "replaced in place");
  m.erase("b");
  m.erase("not there");
  EXPECT_EQ(keys(), "ac");
  EXPECT_FALSE(m.has("b"));
  EXPECT_TRUE(m.boolean("c")) << "found after an erase before it";
  m.set("b", int8_t{-1});
  EXPECT_EQ(keys(), "acb");
  EXPECT_EQ(m.integer("b"), -1);
}

TEST(Metadata, AnyIntegerServesAsIntegerAndReal) {
  Metadata m;
  m.set("u8", uint8_t{255});
  m.set("i8", int8_t{-128});
  m.set("u16", uint16_t{65535});
  m.set("i16", int16_t{-32768});
  m.set("u32", uint32_t{4294967295});
  m.set("i32", int32_t{INT32_MIN});
  m.set("u64", uint64_t{INT64_MAX});
  m.set("i64", int64_t{INT64_MIN});
  m.set("f32", 0.25f);
  m.set("f64", 1e300);
  EXPECT_EQ(m.integer("u8"), 255);
  EXPECT_EQ(m.integer("i8"), -128);
  EXPECT_EQ(m.integer("u16"), 65535);
  EXPECT_EQ(m.integer("i16"), -32768);
  EXPECT_EQ(m.integer("u32"), 4294967295);
  EXPECT_EQ(m.integer("i32"), INT32_MIN);
  EXPECT_EQ(m.integer("u64"), INT64_MAX);
  EXPECT_EQ(m.integer("i64"), INT64_MIN);
  EXPECT_EQ(m.real("u8"), 255);
  EXPECT_EQ(m.real("f32"), 0.25);
  EXPECT_EQ(m.real("f64"), 1e300);
  m.set("u64", uint64_t{INT64_MAX} + 1);
  expect_message(error_of([&] { m.integer("u64"); }), "metadata key u64: 9223372036854775808 is too large");
}

TEST(Metadata, DefaultsServeOnlyMissingKeys) {
  Metadata m;
  m.set("key", std::string("text"));
  EXPECT_EQ(m.integer("none", 7), 7);
  EXPECT_EQ(m.real("none", 0.5), 0.5);
  EXPECT_TRUE(m.boolean("none", true));
  EXPECT_EQ(m.text("none", "other"), "other");
  EXPECT_EQ(m.text("key", "other"), "text");
  EXPECT_THROW(m.integer("key", 7), Error) << "a value of another kind is not a missing one";
  EXPECT_THROW(m.real("key", 7), Error);
  EXPECT_THROW(m.boolean("key", false), Error);
}

TEST(Metadata, ErrorsNameKeyKindAndValue) {
  Metadata m;
  m.set("text", std::string(100, 'x'));
  m.set("flag", true);
  m.set("ids", MetaArray(std::vector<int32_t>{1, 2, 3, 4}));
  m.set("names", MetaArray(std::vector<std::string>{"a"}));
  m.set("half", 0.5f);
  const auto refused = [](auto&& f, std::string_view message) { expect_message(error_of(f), message); };
  refused([&] { m.integer("none"); }, "metadata key none is missing");
  refused([&] { m.integer("half"); }, "metadata key half is f32 (0.5), expected an integer");
  refused([&] { m.integer("flag"); }, "metadata key flag is bool (true), expected an integer");
  refused([&] { m.real("names"); }, "metadata key names is array of string ([\"a\"]), expected a number");
  refused([&] { m.boolean("ids"); }, "metadata key ids is array of i32 ([1, 2, 3, ... 4 in all]), expected a boolean");
  refused([&] { m.text("flag"); }, "expected a string");
  refused([&] { m.text("text", ""), m.integer("text"); }, "xxx...\"), expected an integer");
  refused([&] { m.texts("ids"); }, "expected an array of strings");
  refused([&] { m.texts("text"); }, "expected an array of strings");
  refused([&] { m.reals("names"); }, "expected an array of numbers");
  refused([&] { m.reals("half"); }, "expected an array of numbers");
  refused([&] { m.integers("names"); }, "expected an array of integers");
}

TEST(Metadata, ArraysOfAnyNumericType) {
  Metadata m;
  m.set("u8", MetaArray(std::vector<uint8_t>{1, 255}));
  m.set("i64", MetaArray(std::vector<int64_t>{INT64_MIN}));
  m.set("u64", MetaArray(std::vector<uint64_t>{UINT64_MAX}));
  m.set("f32", MetaArray(std::vector<float>{0.5f, -1}));
  m.set("bool", MetaArray(std::vector<bool>{true}));
  m.set("empty", MetaArray(std::vector<int32_t>{}));
  EXPECT_EQ(m.integers("u8"), (std::vector<int64_t>{1, 255}));
  EXPECT_EQ(m.integers("i64"), (std::vector<int64_t>{INT64_MIN}));
  EXPECT_EQ(m.integers("empty"), std::vector<int64_t>{});
  EXPECT_EQ(m.reals("f32"), (std::vector<double>{0.5, -1}));
  EXPECT_EQ(m.reals("u8"), (std::vector<double>{1, 255}));
  expect_message(error_of([&] { m.integers("u64"); }), "18446744073709551615 is too large");
  EXPECT_THROW(m.integers("f32"), Error);
  EXPECT_THROW(m.integers("bool"), Error);
}

TEST(Metadata, ValuesAsText) {
  EXPECT_EQ(to_string(MetaValue(uint8_t{65})), "65") << "a number, not a letter";
  EXPECT_EQ(to_string(MetaValue(std::string("a"))), "\"a\"");
  EXPECT_EQ(to_string(MetaValue(MetaArray(std::vector<bool>{true, false}))), "[true, false]");
  EXPECT_EQ(to_string(MetaValue(MetaArray(std::vector<int8_t>{-1, 2, 3})), 2), "[-1, 2, ... 3 in all]");
  EXPECT_EQ(to_string(MetaValue(MetaArray(std::vector<float>{}))), "[]");
  EXPECT_EQ(kind_of(MetaValue(MetaArray(std::vector<uint64_t>{}))), "array of u64");
  EXPECT_EQ(kind_of(MetaValue(1.0)), "f64");
}

}  // namespace
}  // namespace weft
