#include "convert/weights.h"

#include <gtest/gtest.h>

#include <cstring>

#include "convert/hf_checkpoint.h"
#include "convert/safetensors.h"
#include "tests/support/hf_folder.h"
#include "tests/support/torch_archive.h"

namespace weft {
namespace {

using namespace weft::testing;

void write_shard(const TempFolder& folder, const std::string& file, const std::string& tensor) {
  std::vector<float> values = {1, 2};
  write_safetensors(folder.file(file), {{tensor, {{quant::f32, {2}}, reinterpret_cast<std::byte*>(values.data())}}});
}

TEST(WeightsFolder, ReadsShardsThroughTheIndex) {
  const TempFolder folder;
  folder.write("model.safetensors.index.json", R"({"weight_map": {"a": "2.safetensors", "b": "1.safetensors"}})");
  write_shard(folder, "1.safetensors", "b");
  write_shard(folder, "2.safetensors", "a");
  const WeightsFolder weights(folder.path() + "/");
  EXPECT_EQ(weights.names(), (std::vector<std::string>{"b", "a"}));
  EXPECT_EQ(weights.files().size(), 2u);
  EXPECT_EQ(weights.tensor("a").type, (TensorType{quant::f32, Shape{2}}));
  EXPECT_FALSE(weights.has("c"));
  expect_message(error_of([&] { weights.tensor("c"); }), "tensor c is missing");
}

TEST(WeightsFolder, ReadsASingleFile) {
  const TempFolder folder;
  write_shard(folder, "model.safetensors", "a");
  EXPECT_EQ(WeightsFolder(folder.path()).names(), std::vector<std::string>{"a"});
}

TEST(WeightsFolder, RefusesWithAReason) {
  const TempFolder folder;
  const auto open = [&] { return error_of([&] { WeightsFolder{folder.path()}; }); };
  EXPECT_EQ(open(), folder.path() +
                        ": has neither model.safetensors nor pytorch_model.bin, nor the index (.index.json) of one");
  write_shard(folder, "1.safetensors", "b");
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

TEST(WeightsFolder, ReadsTheBundledModel) {
  const std::string path = shared_folder() + "/models/union";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const WeightsFolder weights(path);
  EXPECT_EQ(weights.files().size(), 2u);
  int64_t parameters = 0;
  for (const std::string& name : weights.names()) parameters += weights.tensor(name).type.elements();
  EXPECT_EQ(parameters, 11338880) << "total_parameters of the index";
  EXPECT_EQ(weights.tensor("transformer.h.0.attn.c_attn.weight").type, (TensorType{quant::f16, Shape{320, 960}}));
  const SafetensorsFile expected(path + "/expected.safetensors");
  EXPECT_EQ(expected.tensor("input_ids").type, (TensorType{quant::i32, Shape{512}}));
}

// The same weights, whatever the files: safetensors, one torch file, torch shards.
TEST(WeightsFolder, TorchFilesAreAsSafetensors) {
  HfFolder folder{std::string(kLlamaConfig)};
  const HfCheckpoint expected(folder.path());
  std::map<std::string, std::string> values;
  for (const std::string& name : expected.tensor_names()) {
    const LoadedTensor tensor = expected.load(name);
    values[name] = std::string(tensor->as<char>(), tensor->type.bytes());
  }
  const auto expect_same = [&] {
    const HfCheckpoint got(folder.path());
    EXPECT_EQ(got.tensor_names(), expected.tensor_names());
    for (const auto& [name, bytes] : values) {
      const LoadedTensor tensor = got.load(name);
      EXPECT_EQ(tensor->type, *expected.type(name)) << name;
      EXPECT_EQ(std::string(tensor->as<char>(), tensor->type.bytes()), bytes) << name;
    }
  };
  std::filesystem::remove(folder.file("model.safetensors"));
  std::ofstream(folder.file("pytorch_model.bin"), std::ios::binary) << torch_bytes(folder.tensors());
  expect_same();

  std::filesystem::remove(folder.file("pytorch_model.bin"));
  std::string map;
  for (const size_t shard : {0u, 1u}) {
    std::vector<NamedTensor> part;
    const std::string file = fmt::format("pytorch_model-0000{}-of-00002.bin", shard + 1);
    for (size_t i = shard; i < folder.tensors().size(); i += 2) {
      part.push_back(folder.tensors()[i]);
      map += fmt::format("{}\"{}\": \"{}\"", map.empty() ? "" : ", ", part.back().name, file);
    }
    std::ofstream(folder.file(file), std::ios::binary) << torch_bytes(part);
  }
  std::ofstream(folder.file("pytorch_model.bin.index.json")) << "{\"weight_map\": {" << map << "}}";
  expect_same();

  // Safetensors come first: they are what a folder that has both was last written with.
  folder.write();
  EXPECT_EQ(WeightsFolder(folder.path()).files().size(), 1u);
}

}  // namespace
}  // namespace weft
