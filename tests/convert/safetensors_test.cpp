#include "convert/safetensors.h"
#include "convert/safetensors_writer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "ops/quant/all.h"
#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

/// A file byte by byte, independent of the writer.
std::string file_bytes(const std::string& header, size_t data_bytes) {
  const uint64_t n = header.size();
  std::string out(reinterpret_cast<const char*>(&n), sizeof n);
  out += header;
  for (size_t i = 0; i < data_bytes; ++i) out += static_cast<char>(i + 1);
  return out;
}

const std::string kSmall = R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,2],"data_offsets":[6,22]},)"
                           R"("a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},)"
                           R"("none":{"dtype":"F16","shape":[0,3],"data_offsets":[22,22]},)"
                           R"("scalar":{"dtype":"BF16","shape":[],"data_offsets":[22,24]}})";

TEST(SafetensorsFile, ReadsEntriesOfAnyDtype) {
  const TempFolder folder;
  for (size_t pad = 0; pad < 8; ++pad) {  // header lengths that leave the data misaligned
    const SafetensorsFile file(folder.write("a.safetensors", file_bytes(kSmall + std::string(pad, ' '), 24)));
    EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
    EXPECT_EQ(file.names(), (std::vector<std::string>{"a", "b", "none", "scalar"})) << "not in the order of the data";
    ASSERT_NE(file.find("a"), nullptr);
    EXPECT_EQ(file.find("a")->dtype, "U8");
    EXPECT_EQ(file.find("a")->shape, std::vector<int64_t>{6});
    EXPECT_EQ(file.find("a")->bytes.size(), 6u);
    EXPECT_EQ(std::to_integer<int>(file.find("a")->bytes[5]), 6);
    EXPECT_EQ(file.find("c"), nullptr);

    const Tensor b = file.tensor("b");
    EXPECT_EQ(b.type, (TensorType{quant::f32, Shape{2, 2}}));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data) % 4, 0u) << "readers use float pointers";
    EXPECT_EQ(std::to_integer<int>(b.data[0]), 7);
    EXPECT_EQ(file.tensor("none").type, (TensorType{quant::f16, Shape{0, 3}}));
    EXPECT_EQ(file.tensor("scalar").type, (TensorType{quant::bf16, Shape{}}));
    expect_message(error_of([&] { file.tensor("a"); }), "a.safetensors: tensor a has dtype U8, weft reads F32, F16");
    expect_message(error_of([&] { file.tensor("c"); }), "a.safetensors: tensor c is missing");
  }
}

TEST(SafetensorsFile, RefusesHostileFilesWithAReason) {
  const auto one = [](const std::string& entry, size_t data = 8) { return file_bytes("{\"t\":" + entry + "}", data); };
  const auto two = [](const std::string& first, const std::string& second) {
    return file_bytes(R"({"t":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
                          R"(},"u":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}",
                      8);
  };
  const uint64_t huge = 100'000'001;
  const struct {
    std::string bytes, fragment;
  } cases[] = {
      {"", "truncated: a safetensors file begins with 8 bytes, this one has 0"},
      {"1234567", "this one has 7"},
      {std::string(reinterpret_cast<const char*>(&huge), 8), "a header of 100000001 bytes, at most 100000000"},
      {file_bytes("{}", 0).substr(0, 9), "truncated: a header of 2 bytes, 1 are left"},
      {file_bytes("", 0), "its header does not begin with {"},
      {file_bytes(" {}", 0), "its header does not begin with {"},
      {file_bytes("{\"t\"", 0), "header: parse error"},
      {file_bytes("{\"t\":" + std::string(100'000, '['), 0), "header: nests deeper than 64 levels"},
      {file_bytes("{\"t\":1,\"t\":2}", 0), "header: t occurs twice"},
      {file_bytes("{\"__metadata__\":[]}", 0), "__metadata__ is a JSON array"},
      {file_bytes("{\"__metadata__\":{\"a\":1}}", 0), "__metadata__: a is a JSON number, expected a string"},
      {file_bytes("{}", 1), "has 1 bytes of data, its tensors 0"},
      {one("1"), "tensor t: is a JSON number, expected an object"},
      {one("{}"), "tensor t: dtype is missing"},
      {one(R"({"dtype":1})"), "tensor t: dtype is a JSON number"},
      {one(R"({"dtype":"F31\n"})"), "tensor t: unknown dtype F31?"},
      {one(R"({"dtype":"F32"})"), "tensor t: shape is missing"},
      {one(R"({"dtype":"F32","shape":2})"), "tensor t: shape is a JSON number"},
      {one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), "shape has an element that is no whole number"},
      {one(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), "shape has an element that is no whole number"},
      {one(R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]})"), "shape has an element that is no"},
      {one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})"),
       "the shape has too many elements"},
      {one(R"({"dtype":"F4","shape":[3],"data_offsets":[0,2]})"), "12 bits of F4 are no whole bytes"},
      {one(R"({"dtype":"F32","shape":[2]})"), "tensor t: data_offsets is missing"},
      {one(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"), "data_offsets is not an array of two"},
      {one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,"8"]})"), "data_offsets has an element that is no"},
      {one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "data_offsets [8, 0] run backwards"},
      {one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,16]})"),
       "data_offsets [0, 16] run past the 8 bytes of data"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,8]})"),
       "data_offsets span 8 bytes, F32 of this shape has 4"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"),
       "tensor t begins at byte 4 of the data, after a hole from"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"), "has 8 bytes of data, its tensors 4"},
      {two("[0,4]", "[3,7]"), "tensor u begins at byte 3 of the data, inside the one before"},
      {two("[4,8]", "[4,8]"), "after a hole from byte 0"},
      {two("[0,4]", "[0,4]"), "begins at byte 0 of the data, inside the one before, which ends at byte 4"},
  };
  const TempFolder folder;
  for (const auto& c : cases) {
    SCOPED_TRACE(c.fragment);
    const std::string path = folder.write("a.safetensors", c.bytes);
    const std::string message = error_of([&] { SafetensorsFile{path}; });
    EXPECT_EQ(message.rfind(path + ": ", 0), 0u) << message;
    expect_message(message, c.fragment);
  }
}

TEST(SafetensorsFile, TooManyDimensionsAreListedButNoTensor) {
  const TempFolder folder;
  const std::string header = R"({"t":{"dtype":"F32","shape":[1,1,1,1,1,1],"data_offsets":[0,4]}})";
  const SafetensorsFile file(folder.write("a", file_bytes(header, 4)));
  EXPECT_EQ(file.find("t")->shape.size(), 6u);
  expect_message(error_of([&] { file.tensor("t"); }), "tensor t: a tensor has at most 5 dimensions, given 6");
}

TEST(SafetensorsFile, EveryTruncationIsAnErrorAndMutationsLoadOrThrow) {
  const TempFolder folder;
  const std::string whole = file_bytes(kSmall, 24);
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_THROW(SafetensorsFile{folder.write("a", whole.substr(0, n))}, Error) << n;
  }
  std::mt19937 random(11);
  size_t loaded = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string bytes = whole;
    bytes[random() % (8 + kSmall.size())] = static_cast<char>(random() % 128);
    try {
      const SafetensorsFile file(folder.write("a", bytes));
      unsigned sum = 0;
      for (const std::string& name : file.names()) {
        for (std::byte b : file.find(name)->bytes) sum += std::to_integer<unsigned>(b);
      }
      EXPECT_EQ(sum, 24u * 25 / 2) << "entries do not cover the data once";
      ++loaded;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(loaded, 50u);
}

TEST(WriteSafetensors, RoundTrips) {
  const TempFolder folder;
  std::vector<float> f32 = {1.5F, -2.0F, 0.0F, 3.25F, 1e-30F, 7.0F};
  std::vector<uint16_t> half = {0x3C00, 0xBC00, 0x7BFF};
  std::vector<int32_t> ids = {1, -2, INT32_MAX};
  const auto view = [](auto& data, DType type, Shape shape) {
    return Tensor{.type = {type, shape}, .data = reinterpret_cast<std::byte*>(data.data())};
  };
  const std::vector<NamedTensor> tensors = {{"half", view(half, quant::f16, {3})},
                                            {"f32", view(f32, quant::f32, {2, 3})},
                                            {"bf \"quoted\"", view(half, quant::bf16, {1, 3})},
                                            {"scalar", view(f32, quant::f32, {})},
                                            {"none", view(f32, quant::f32, {0, 5})},
                                            {"ids", view(ids, quant::i32, {3, 1})}};
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"note", "a\nb"}};
  write_safetensors(folder.file("a"), tensors, metadata);

  const SafetensorsFile file(folder.file("a"));
  EXPECT_EQ(file.metadata(), metadata);
  EXPECT_EQ(file.names().size(), tensors.size());
  for (const NamedTensor& item : tensors) {
    const Tensor tensor = file.tensor(item.name);
    EXPECT_EQ(tensor.type, item.tensor.type) << item.name;
    EXPECT_EQ(std::memcmp(tensor.data, item.tensor.data, tensor.type.bytes()), 0) << item.name;
  }
  uint64_t header = 0;
  std::memcpy(&header, read_file(folder.file("a")).data(), sizeof header);
  EXPECT_EQ(header % 8, 0u) << "data would be misaligned";
  EXPECT_EQ(folder.count(), 1u);

  write_safetensors(folder.file("empty"), {});
  EXPECT_TRUE(SafetensorsFile(folder.file("empty")).names().empty());
}

TEST(WriteSafetensors, RefusesWhatTheFormatCannotHold) {
  const TempFolder folder;
  std::vector<std::byte> data(64);
  const Tensor f32{.type = {quant::f32, Shape{4}}, .data = data.data()};
  const Tensor q4{.type = {quant::q4_0, Shape{32}}, .data = data.data()};
  const Layout layout{};
  Tensor packed = f32;
  packed.layout = &layout;
  const auto write = [&](const std::vector<NamedTensor>& tensors) {
    const std::string message = error_of([&] { write_safetensors(folder.file("a"), tensors); });
    EXPECT_EQ(message.rfind(folder.file("a") + ": ", 0), 0u) << message;
    return message;
  };
  expect_message(write({{"t", q4}}), "tensor t: has type q4_0, safetensors takes f32, f16, bf16 and i32");
  expect_message(write({{"t", Tensor{}}}), "tensor t: has type none");
  expect_message(write({{"t", packed}}), "tensor t: is packed");
  expect_message(write({{"t", f32}, {"t", f32}}), "tensor t: is given twice");
  expect_message(write({{"__metadata__", f32}}), "tensor __metadata__: cannot have this name");
  expect_message(write({{"\xFF", f32}}), "is not UTF-8");
  EXPECT_EQ(folder.count(), 0u);
}

// Folders.

std::string shard(const std::string& tensor) {
  return file_bytes("{\"" + tensor + R"(":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
}

TEST(SafetensorsFolder, ReadsShardsThroughTheIndex) {
  const TempFolder folder;
  folder.write("model.safetensors.index.json", R"({"weight_map": {"a": "2.safetensors", "b": "1.safetensors"}})");
  folder.write("1.safetensors", shard("b"));
  folder.write("2.safetensors", shard("a"));
  const SafetensorsFolder weights(folder.path() + "/");
  EXPECT_EQ(weights.names(), (std::vector<std::string>{"b", "a"}));
  EXPECT_EQ(weights.files().size(), 2u);
  EXPECT_EQ(weights.tensor("a").type, (TensorType{quant::f32, Shape{2}}));
  EXPECT_EQ(weights.find("c"), nullptr);
  expect_message(error_of([&] { weights.tensor("c"); }), "tensor c is missing");
}

TEST(SafetensorsFolder, ReadsASingleFile) {
  const TempFolder folder;
  folder.write("model.safetensors", shard("a"));
  EXPECT_EQ(SafetensorsFolder(folder.path()).names(), std::vector<std::string>{"a"});
}

TEST(SafetensorsFolder, RefusesWithAReason) {
  const TempFolder folder;
  const auto open = [&] { return error_of([&] { SafetensorsFolder{folder.path()}; }); };
  EXPECT_EQ(open(), folder.path() + ": has neither model.safetensors nor model.safetensors.index.json");
  folder.write("1.safetensors", shard("b"));
  const struct {
    std::string index, fragment;
  } cases[] = {
      {"", "model.safetensors.index.json: parse error"},
      {"[]", "has no object weight_map"},
      {R"({"weight_map": []})", "has no object weight_map"},
      {R"({"weight_map": {"a": 1}})", "the file of tensor a is a JSON number"},
      {R"({"weight_map": {"a": "/etc/passwd"}})",
       "the file of tensor a is '/etc/passwd', expected a name in the same folder"},
      {R"({"weight_map": {"a": ".."}})", "expected a name in the same folder"},
      {R"({"weight_map": {"a": ""}})", "expected a name in the same folder"},
      {R"({"weight_map": {"a": "1.safetensors\u0000x"}})", "expected a name in the same folder"},
      {R"({"weight_map": {"a": "9.safetensors"}})", "9.safetensors: No such file or directory"},
      {R"({"weight_map": {"a": "1.safetensors"}})", "1.safetensors: tensor a is missing"},
  };
  for (const auto& c : cases) {
    folder.write("model.safetensors.index.json", c.index);
    expect_message(open(), c.fragment);
  }
}

TEST(SafetensorsFolder, ReadsTheBundledModel) {
  const std::string path = shared_folder() + "/models/union";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const SafetensorsFolder weights(path);
  EXPECT_EQ(weights.files().size(), 2u);
  int64_t parameters = 0;
  for (const std::string& name : weights.names()) parameters += weights.tensor(name).type.elements();
  EXPECT_EQ(parameters, 11338880) << "total_parameters of the index";
  EXPECT_EQ(weights.tensor("transformer.h.0.attn.c_attn.weight").type, (TensorType{quant::f16, Shape{320, 960}}));
  const SafetensorsFile expected(path + "/expected.safetensors");
  EXPECT_EQ(expected.tensor("input_ids").type, (TensorType{quant::i32, Shape{512}}));
}

}  // namespace
}  // namespace weft
