#include "convert/torch_file.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/convert/temp_folder.h"
#include "tests/support/torch_archive.h"

namespace weft {
namespace {

using namespace weft::testing;
using namespace weft::testing::pickled;

std::string floats(std::initializer_list<float> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(float)};
}

std::string archive(const Items& items, std::vector<ZipEntry> more = {{"m/data/0", floats({1, 2, 3, 4, 5, 6})}}) {
  more.insert(more.begin(), ZipEntry{"m/data.pkl", state_dict(items)});
  return zip_bytes(more);
}

const std::string kSix = storage("FloatStorage", "0", 6);

TEST(TorchFile, TensorsAreViewsOfTheirStorages) {
  const TempFolder folder;
  const TorchFile file(folder.write("a.bin", archive({{"all", tensor(kSix, 0, {2, 3}, {3, 1})},
                                                      {"last", tensor(kSix, 4, {2}, {1})},
                                                      {"transposed", tensor(kSix, 0, {3, 2}, {1, 3})},
                                                      {"none", tensor(kSix, 6, {0, 3}, {3, 1})},
                                                      {"scalar", tensor(kSix, 1, {}, {})}})));
  EXPECT_EQ(file.names(), (std::vector<std::string>{"all", "last", "transposed", "none", "scalar"}));
  const LoadedTensor all = file.tensor("all").load(), last = file.tensor("last").load();
  EXPECT_EQ(all->type, (TensorType{quant::f32, {2, 3}}));
  EXPECT_EQ(all->as<float>()[5], 6);
  EXPECT_EQ(last->as<float>()[0], 5);
  const LoadedTensor turned = file.tensor("transposed").load();
  EXPECT_EQ(turned->type, (TensorType{quant::f32, {3, 2}}));
  for (int i = 0; i < 6; ++i) EXPECT_EQ(turned->as<float>()[i], static_cast<float>(1 + i / 2 + i % 2 * 3)) << i;
  EXPECT_EQ(file.tensor("none").type.bytes(), 0u);
  EXPECT_EQ(file.tensor("scalar").load()->as<float>()[0], 2);
  expect_message(error_of([&] { file.tensor("other"); }), "a.bin: tensor other is missing");
}

TEST(TorchFile, WhatCannotBeUsedIsAnErrorWhenAskedFor) {
  const TempFolder folder;
  const std::string path =
      folder.write("a.bin", archive({{"good", tensor(kSix, 0, {6}, {1})},
                                     {"strided", tensor(kSix, 0, {2, 2}, {3, 1})},
                                     {"mask", tensor(storage("BoolStorage", "0", 24), 0, {24}, {1})},
                                     {"double", tensor(storage("DoubleStorage", "0", 3), 0, {3}, {1})},
                                     {"deep", tensor(kSix, 0, {1, 1, 1, 1, 1, 6}, {6, 6, 6, 6, 6, 1})}}));
  const TorchFile file(path);
  EXPECT_NO_THROW(file.tensor("good"));
  const auto refused = [&](const char* name, const char* reason) {
    expect_message(error_of([&] { file.tensor(name); }), fmt::format("{}: tensor {}: {}", path, name, reason));
  };
  refused("strided", "is a view of shape [2, 2] and strides [3, 1], weft reads contiguous and transposed ones");
  refused("mask", "has dtype bool, weft reads float32, float16, bfloat16 and int32");
  refused("double", "has dtype float64, weft reads float32, float16, bfloat16 and int32: save the model again in one");
  refused("deep", "a tensor has at most 5 dimensions");
}

TEST(TorchFile, RefusesHostileFiles) {
  const TempFolder folder;
  const std::string good = tensor(kSix, 0, {6}, {1});
  const std::vector<ZipEntry> data = {{"m/data/0", floats({1, 2, 3, 4, 5, 6})}};
  const auto with = [&](ZipEntry more) { return archive({{"w", good}}, {data[0], std::move(more)}); };
  std::string tar(600, '\0');
  tar.replace(257, 5, "ustar");
  const std::string legacy = "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.";
  const std::pair<std::string, std::string> cases[] = {
      {"", "is not a torch file: it is no zip archive"},
      {legacy, "is of the form that torch wrote before 1.6"},
      {tar, "is of the form that torch wrote before 1.6"},
      {zip_bytes({{"a", "b"}}), "none of torch.save: it has no NAME/data.pkl"},
      {with({"n/data.pkl", state_dict({})}), "is ambiguous"},
      {with({"m/byteorder", "big"}), "is in byte order 'big'"},
      {archive({{"w", good}}, {}), "tensor w: the archive has no entry m/data/0"},
      {archive({{"w", tensor(kSix, 1, {3, 2}, {1, 3})}}), "tensor w: elements 1 to 7 run past its storage of 6"},
      {archive({{"w", good}}, {{"m/data/0", floats({1})}}),
       "tensor w: its storage has 24 bytes, the archive's entry 4"},
      {archive({{"w", good}}, {{"m/data/0", floats({1, 2, 3, 4, 5, 6}), 8}}), "is compressed"},
      {archive({{"w", tensor(kSix, 1, {6}, {1})}}), "tensor w: elements 1 to 7 run past its storage of 6"},
      {archive({{"w", tensor(kSix, INT64_MAX, {1}, {1})}}), "run past its storage"},
      {archive({{"w", tensor(kSix, 0, {int64_t{1} << 40, int64_t{1} << 40}, {int64_t{1} << 40, 1})}}),
       "tensor w: the shape has too many elements"},
      {archive({{"w", call(global("os", "system"), {text("id")})}}), "pickle names os.system: refused"},
  };
  for (const auto& [bytes, fragment] : cases) {
    const std::string path = folder.write("a.bin", bytes);
    const std::string message = error_of([&] { TorchFile{path}; });
    EXPECT_EQ(message.find(path + ": "), 0u) << message;
    expect_message(message, fragment);
  }
}

// Files that torch itself wrote; the folder of gpt2 runs in the session's tests.
TEST(TorchFile, ReadsTorchsOwnFiles) {
  const struct {
    const char *model, *name;
    DType dtype;
    size_t tensors;
  } cases[] = {{"gpt2", "transformer.h.0.attn.c_attn.weight", quant::f32, 0},
               {"opt", "model.decoder.layers.0.fc1.weight", quant::f16, 0},
               {"bloom", "transformer.word_embeddings.weight", quant::bf16, 0}};
  for (const auto& c : cases) {
    const std::string path = shared_folder() + "/golden/models/" + c.model + "/pytorch_model.bin";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
    SCOPED_TRACE(path);
    const TorchFile file(path);
    ASSERT_TRUE(file.has(c.name)) << fmt::format("{}", fmt::join(file.names(), " "));
    EXPECT_EQ(file.tensor(c.name).type.dtype, c.dtype);
    double sum = 0, square = 0, n = 0;
    for (const std::string& name : file.names()) {
      const LoadedTensor tensor = file.tensor(name).load();
      std::vector<float> values(static_cast<size_t>(tensor->type.elements()));
      tensor->type.dtype->decode(tensor->data, values.data(), values.size());
      for (const float v : values)
        sum += static_cast<double>(v), square += static_cast<double>(v) * static_cast<double>(v);
      n += static_cast<double>(values.size());
    }
    EXPECT_GT(n, 1e5);
    EXPECT_TRUE(std::isfinite(sum) && square / n < 10) << "these are no weights: " << sum << ", " << square;
  }
}

}  // namespace
}  // namespace weft
