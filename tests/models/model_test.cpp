#include "models/model.h"

#include <gtest/gtest.h>

#include "ops/quant/bf16.h"
#include "ops/quant/f16.h"
#include "ops/quant/q8_0.h"
#include "tests/convert/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

TensorType f32(const Shape& shape) { return {quant::f32, shape}; }

/// The error of a tiny model after `change`; it must begin with the path, once.
template <typename F>
std::string error_after(const std::string& architecture, F&& change) {
  const auto tiny = tiny_model({.architecture = architecture});
  change(*tiny);
  const std::string message = error_of([&] { Model{tiny}; });
  EXPECT_EQ(message.find("tiny: "), 0u) << message;
  EXPECT_EQ(message.rfind("tiny: "), 0u) << message;
  return message;
}

TEST(Model, BindsEveryTensor) {
  for (const char* architecture : {"gpt2", "llama"}) {
    const auto tiny = tiny_model({.architecture = architecture});
    const Model model(tiny);
    size_t bytes = 0;
    for (const std::string& name : tiny->tensor_names()) {
      ASSERT_NE(model.find(name), nullptr) << name;
      EXPECT_EQ(model.find(name)->data, tiny->at(name).data) << "not copied";
      bytes += tiny->at(name).type.bytes();
    }
    EXPECT_EQ(model.weight_bytes(), bytes);
    EXPECT_EQ(model.find("blk.9.attn_norm.weight"), nullptr);
    EXPECT_EQ(model.architecture().name, architecture);
    EXPECT_EQ(model.shape().n_vocab, 61);
    EXPECT_EQ(model.shape().context_length, 300);
    EXPECT_EQ(model.shape().n_layer, 2);
    EXPECT_EQ(model.shape().d_head, 12);
    EXPECT_EQ(model.shape().n_kv_head, std::string_view(architecture) == "gpt2" ? 3 : 1);
  }
}

TEST(Model, OptionalTensorsMayBeAbsent) {
  const auto tiny = tiny_model();
  tiny->drop("output.weight");
  EXPECT_EQ(Model(tiny).find("output.weight"), nullptr);
}

TEST(Model, TensorsThatItsArchitectureDoesNotKnowAreLeftAlone) {
  const auto tiny = tiny_model();
  tiny->set("extra.weight", {quant::f32, {3}}, 1);
  EXPECT_EQ(Model(tiny).find("extra.weight"), nullptr);
}

TEST(Model, VectorsBecomeF32) {
  const auto tiny = tiny_model();
  const Tensor before = tiny->at("output_norm.weight");
  for (const DType type : {DType(quant::f16), DType(quant::bf16)}) {
    tiny->set("output_norm.weight", {type, {36}}, 5);
    const Model model(tiny);
    const Tensor& vector = *model.find("output_norm.weight");
    EXPECT_EQ(vector.type, before.type);
    std::vector<float> expected(36);
    type->decode(tiny->at("output_norm.weight").data, expected.data(), 36);
    EXPECT_EQ(std::vector<float>(vector.as<float>(), vector.as<float>() + 36), expected);
  }
}

TEST(Model, IsCalledByTheTypeOfMostBytes) {
  EXPECT_EQ(Model(tiny_model()).main_type().name(), "f32");
  EXPECT_EQ(Model(tiny_model({.type = quant::f16})).main_type().name(), "f16");
  EXPECT_EQ(Model(tiny_model({.d_model = 96, .d_ff = 64, .type = quant::q8_0})).main_type().name(), "q8_0");
}

TEST(Model, ErrorsNameTheTensor) {
  expect_message(error_after("llama", [](auto& m) { m.drop("blk.1.ffn_up.weight"); }),
                 "tiny: tensor blk.1.ffn_up.weight is missing");
  expect_message(error_after("gpt2", [](auto& m) { m.drop("position_embd.weight"); }),
                 "tensor position_embd.weight is missing");
  expect_message(error_after("llama",
                             [](auto& m) {
                               m.set("blk.0.attn_k.weight", f32({13, 36}), 1);
                             }),
                 "tensor blk.0.attn_k.weight is [13, 36], the metadata says [12, 36]");
  expect_message(error_after("llama", [](auto& m) { m.set("blk.0.attn_k.weight", f32({12 * 36}), 1); }),
                 "tensor blk.0.attn_k.weight is [432], the metadata says [12, 36]");
  expect_message(error_after("gpt2",
                             [](auto& m) {
                               m.set("blk.0.ffn_up.weight", TensorType{quant::i32, {50, 36}}, 1);
                             }),
                 "tensor blk.0.ffn_up.weight is i32, not a weight type");
}

TEST(Model, ErrorsNameTheKey) {
  const auto with = [](const char* architecture, const char* key, MetaValue value) {
    return error_after(architecture, [&](auto& m) { m.edit().set(key, std::move(value)); });
  };
  expect_message(error_after("llama", [](auto& m) { m.edit().erase("general.architecture"); }),
                 "metadata key general.architecture is missing");
  expect_message(with("llama", "general.architecture", std::string("mamba")),
                 "unknown architecture mamba; known are: ");
  expect_message(error_after("gpt2", [](auto& m) { m.edit().erase("gpt2.block_count"); }),
                 "metadata key gpt2.block_count is missing");
  expect_message(error_after("llama", [](auto& m) { m.edit().erase("llama.attention.layer_norm_rms_epsilon"); }),
                 "metadata key llama.attention.layer_norm_rms_epsilon is missing");
  expect_message(with("llama", "llama.block_count", std::string("2")), "metadata key llama.block_count is string");
  for (const char* architecture : {"gpt2", "llama"}) {
    const auto key = [&](const char* name) { return fmt::format("{}.{}", architecture, name); };
    for (const int64_t value : {int64_t{0}, int64_t{-1}, INT64_MAX, INT64_MIN, int64_t{1} << 33}) {
      SCOPED_TRACE(fmt::format("{} {}", architecture, value));
      expect_message(with(architecture, key("block_count").c_str(), value), "number of layers");
      expect_message(with(architecture, key("embedding_length").c_str(), value), "width");
      expect_message(with(architecture, key("attention.head_count").c_str(), value), "number of heads");
      expect_message(with(architecture, key("feed_forward_length").c_str(), value), "feed-forward width");
      expect_message(with(architecture, key("context_length").c_str(), value), "context");
      expect_message(with(architecture, key("vocab_size").c_str(), value), "");
    }
  }
  for (const int64_t value : {int64_t{0}, int64_t{-1}, INT64_MAX, INT64_MIN, int64_t{1} << 33}) {
    SCOPED_TRACE(value);
    expect_message(with("llama", "llama.attention.head_count_kv", value), "number of kv heads");
    expect_message(with("llama", "llama.attention.key_length", value), "head dimension");
    expect_message(with("llama", "llama.rope.dimension_count", value), "rotary dimension");
    if (value != 0) expect_message(with("llama", "llama.expert_count", value), "experts");
    if (value != 0) expect_message(with("llama", "llama.attention.sliding_window", value), "window");
  }
  expect_message(with("gpt2", "gpt2.hidden_activation", std::string("quux")), "quux");
}

// What would take minutes or all memory to list is refused by a look at the file.
TEST(Model, MoreLayersThanTensorsIsAnErrorAtOnce) {
  expect_message(error_after("llama", [](auto& m) { m.edit().set("llama.block_count", uint32_t{65536}); }),
                 "65536 layers");
  expect_message(error_after("llama",
                             [](auto& m) {
                               m.edit().set("llama.expert_count", uint32_t{1} << 30);
                               m.edit().set("llama.expert_used_count", uint32_t{2});
                             }),
                 "experts");
}

}  // namespace
}  // namespace weft
