#include "convert/gguf_writer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "convert/gguf_reader.h"
#include "ops/quant/all.h"
#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

Metadata all_value_types() {
  Metadata m;
  m.set("z.first", std::string("order is kept"));
  m.set("u8", uint8_t{255});
  m.set("i8", int8_t{-128});
  m.set("u16", uint16_t{65535});
  m.set("i16", int16_t{-32768});
  m.set("u32", uint32_t{UINT32_MAX});
  m.set("i32", int32_t{INT32_MIN});
  m.set("f32", 1e-5F);
  m.set("bool", true);
  m.set("string", std::string("zero \0 and \xC3\xA9", 12));
  m.set("u64", uint64_t{UINT64_MAX});
  m.set("i64", int64_t{INT64_MIN});
  m.set("f64", 0.1);
  m.set("a.u8", MetaArray(std::vector<uint8_t>{1, 255}));
  m.set("a.i8", MetaArray(std::vector<int8_t>{-1, 127}));
  m.set("a.u16", MetaArray(std::vector<uint16_t>{1, 65535}));
  m.set("a.i16", MetaArray(std::vector<int16_t>{-1, 2}));
  m.set("a.u32", MetaArray(std::vector<uint32_t>{UINT32_MAX}));
  m.set("a.i32", MetaArray(std::vector<int32_t>{-1, 0, 1}));
  m.set("a.f32", MetaArray(std::vector<float>{0.5F, -0.0F}));
  m.set("a.bool", MetaArray(std::vector<bool>{true, false, true}));
  m.set("a.string", MetaArray(std::vector<std::string>{"", "x"}));
  m.set("a.u64", MetaArray(std::vector<uint64_t>{UINT64_MAX}));
  m.set("a.i64", MetaArray(std::vector<int64_t>{INT64_MIN}));
  m.set("a.f64", MetaArray(std::vector<double>{1e300}));
  m.set("a.empty", MetaArray(std::vector<std::string>{}));
  return m;
}

void expect_equal(const Metadata& a, const Metadata& b) {
  ASSERT_EQ(a.entries().size(), b.entries().size());
  for (size_t i = 0; i < a.entries().size(); ++i) {
    EXPECT_EQ(a.entries()[i].first, b.entries()[i].first) << "order";
    EXPECT_EQ(a.entries()[i].second, b.entries()[i].second) << a.entries()[i].first;
  }
}

std::string random_bytes(size_t n, std::mt19937& random) {
  std::string out(n, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

TEST(GgufWriter, RoundTripsEveryValueTypeAndDtype) {
  const TempFolder folder;
  for (uint32_t alignment : {0U, 1U, 8U, 4096U}) {  // 0: none given
    Metadata metadata = all_value_types();
    if (alignment > 0) metadata.set("general.alignment", alignment);
    std::vector<NamedType> types = {{"empty.first", {quant::f32, Shape{0, 4}}}, {"i32", {quant::i32, Shape{7}}}};
    for (const TypeTraits* type : quant::kAllTypes) {
      const int64_t block = type->block_elems;
      types.push_back({"one." + std::string(type->name), {*type, Shape{block}}});
      types.push_back({"four." + std::string(type->name), {*type, Shape{2, 1, 3, 3 * block}}});
    }
    types.push_back({std::string(63, 'n'), {quant::f32, Shape{5, 0}}});

    std::mt19937 random(alignment);
    std::vector<std::string> data;
    GgufWriter writer(folder.file("a.gguf"), metadata, types);
    for (const NamedType& tensor : types) {
      data.push_back(random_bytes(tensor.type.bytes(), random));
      const size_t half = data.back().size() / 2;  // in two parts: tensors are streamed
      writer.write(data.back().data(), half);
      writer.write(data.back().data() + half, data.back().size() - half);
    }
    writer.finish();

    const GgufFile file(folder.file("a.gguf"));
    expect_equal(file.metadata(), metadata);
    ASSERT_EQ(file.tensor_names().size(), types.size());
    for (size_t i = 0; i < types.size(); ++i) {
      EXPECT_EQ(file.tensor_names()[i], types[i].name);
      const LoadedTensor tensor = file.load(types[i].name);
      EXPECT_EQ(tensor->type, types[i].type);
      EXPECT_EQ(std::string(tensor->as<char>(), tensor->type.bytes()), data[i]) << types[i].name;
    }
    EXPECT_EQ(file.version(), 3u);
    EXPECT_EQ(file.file_bytes() % (alignment ? alignment : 32), 0u) << "ggml wants the last tensor padded as well";
  }
  EXPECT_EQ(folder.count(), 1u);
}

TEST(GgufWriter, RewritesTheGoldenFileByteForByte) {
  const std::string path = shared_folder() + "/golden/gguf/union-q4_0.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const TempFolder folder;
  const GgufFile golden(path);
  std::vector<NamedType> types;
  for (const std::string& name : golden.tensor_names()) types.push_back({name, *golden.type(name)});
  GgufWriter writer(folder.file("a.gguf"), golden.metadata(), types);
  for (const NamedType& tensor : types) writer.write(golden.load(tensor.name)->data, tensor.type.bytes());
  writer.finish();
  EXPECT_TRUE(read_file(folder.file("a.gguf")) == read_file(path)) << "differs from what the reference writer wrote";
}

TEST(GgufWriter, AFileOfNothingRoundTrips) {
  const TempFolder folder;
  GgufWriter writer(folder.file("a.gguf"), {}, {});
  writer.finish();
  const GgufFile file(folder.file("a.gguf"));
  EXPECT_TRUE(file.tensor_names().empty());
  EXPECT_TRUE(file.metadata().entries().empty());
}

TEST(GgufWriter, RefusesWhatTheFormatCannotHold) {
  const TempFolder folder;
  const std::string path = folder.file("a.gguf");
  Metadata bad_alignment;
  bad_alignment.set("general.alignment", uint32_t{24});
  Metadata long_key;
  long_key.set(std::string(65536, 'k'), true);
  const TensorType f32{quant::f32, Shape{4}};
  const struct {
    Metadata metadata;
    std::vector<NamedType> tensors;
    std::string fragment;
  } cases[] = {
      {bad_alignment, {}, "general.alignment is 24, expected a power of two"},
      {long_key, {}, "has 65536 bytes, expected 1 to 65535"},
      {{}, {{std::string(64, 'n'), f32}}, "has 64 bytes, expected 1 to 63"},
      {{}, {{"", f32}}, "has 0 bytes, expected 1 to 63"},
      {{}, {{"t", f32}, {"t", f32}}, "tensor t is given twice"},
      {{}, {{"t", {quant::f32, Shape{}}}}, "tensor t has 0 dimensions, expected 1 to 4"},
      {{}, {{"t", {quant::f32, Shape{1, 1, 1, 1, 1}}}}, "tensor t has 5 dimensions"},
      {{}, {{"t", {quant::q4_0, Shape{33}}}}, "tensor t: rows of 33 elements are not whole blocks of q4_0"},
      {{}, {{"t", {DType{}, Shape{4}}}}, "tensor t: a tensor of shape [4] has no type"},
  };
  for (const auto& c : cases) {
    const std::string message = error_of([&] { GgufWriter(path, c.metadata, c.tensors); });
    EXPECT_EQ(message.rfind(path + ": ", 0), 0u) << message;
    expect_message(message, c.fragment);
  }
  EXPECT_EQ(folder.count(), 0u) << "a refused file leaves something behind";
  expect_message(error_of([&] { GgufWriter(folder.path(), {}, {}); }), "is a directory");
}

TEST(GgufWriter, HoldsTheCallerToTheSizes) {
  const TempFolder folder;
  const std::string path = folder.file("a.gguf");
  const std::vector<float> data(100);
  {
    GgufWriter writer(path, {}, {{"t", {quant::f32, Shape{4}}}, {"u", {quant::f32, Shape{2}}}});
    expect_message(error_of([&] { writer.write(data.data(), 17); }), "tensor t holds 16 bytes, given 17");
    writer.write(data.data(), 12);
    expect_message(error_of([&] { writer.write(data.data(), 8); }), "tensor t holds 16 bytes, given 20");
    expect_message(error_of([&] { writer.finish(); }), "tensor t was given 12 of its 16 bytes");
    writer.write(data.data(), 4);
    expect_message(error_of([&] { writer.finish(); }), "tensor u was given 0 of its 8 bytes");
    writer.write(data.data(), 8);
    expect_message(error_of([&] { writer.write(data.data(), 1); }), "1 bytes given after the last tensor");
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  EXPECT_EQ(folder.count(), 0u) << "destruction without finish() leaves the partial file";
}

}  // namespace
}  // namespace weft
