#include "convert/convert.h"

#include <gtest/gtest.h>

#include <cstring>

#include "convert/gguf_reader.h"
#include "convert/hf_checkpoint.h"
#include "ops/quant/bf16.h"
#include "ops/quant/f16.h"
#include "ops/quant/q8_0.h"
#include "tests/models/rig.h"
#include "tests/support/hf_folder.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

std::shared_ptr<const Checkpoint> converted(const Checkpoint& source, const std::string& path,
                                            const ConvertOptions& options = {}) {
  write_gguf(source, plan_conversion(source, options), path);
  return std::make_shared<GgufFile>(path);
}

std::vector<float> logits_of(std::shared_ptr<const Checkpoint> checkpoint) {
  const auto ids = random_ids(13, 17, 1);
  return Rig(std::move(checkpoint)).logits(ids);
}

TEST(Convert, AFolderAndItsGgufGiveTheSameLogits) {
  for (const std::string_view config : {kGpt2Config, kLlamaConfig, kMixtralConfig, kNeoxConfig}) {
    SCOPED_TRACE(config);
    const HfFolder folder{std::string(config)};
    const auto source = std::make_shared<HfCheckpoint>(folder.path());
    const auto file = converted(*source, folder.file("out.gguf"));
    EXPECT_EQ(logits_of(source), logits_of(file)) << "bit for bit";
    EXPECT_EQ(file->metadata().text("general.architecture"), source->metadata().text("general.architecture"));
  }
}

TEST(Convert, NormsOfHeadsAreNoMatrices) {
  const HfFolder folder{R"({"model_type": "stablelm", "hidden_size": 64, "max_position_embeddings": 50,
      "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32,
      "vocab_size": 17, "qk_layernorm": true})"};
  for (const PlannedTensor& tensor : plan_conversion(HfCheckpoint(folder.path()), {.type = quant::q8_0}).tensors) {
    const bool is_norm = tensor.name.find("_norm.") != std::string::npos;
    EXPECT_EQ(tensor.to.dtype, is_norm ? DType(quant::f32) : DType(quant::q8_0)) << tensor.name;
  }
}

TEST(Convert, GgufToTheSameTypeKeepsEveryByte) {
  const TempFolder folder;
  for (const DType type : {DType(quant::f32), DType(quant::f16), DType(quant::q8_0)}) {
    const auto tiny = tiny_model({.architecture = "gpt2", .d_model = 96, .d_ff = 64, .type = type});
    // As weft writes it: position embeddings are f32.
    const auto first = converted(*tiny, folder.file("first.gguf"));
    for (const DType asked : {DType(), type}) {
      const auto second = converted(*first, folder.file("second.gguf"), {.type = asked});
      EXPECT_EQ(second->tensor_names(), first->tensor_names());
      for (const std::string& name : first->tensor_names()) {
        const Tensor &a = first->at(name), &b = second->at(name);
        ASSERT_EQ(a.type, b.type) << name;
        EXPECT_EQ(std::memcmp(a.data, b.data, a.type.bytes()), 0) << name;
      }
      EXPECT_EQ(read_file(folder.file("first.gguf")), read_file(folder.file("second.gguf")));
    }
  }
}

TEST(Convert, TypesThatBlocksDoNotDivideFallBack) {
  const auto tiny = tiny_model({.n_layer = 1, .d_model = 32, .n_head = 2, .d_ff = 50});
  const ConvertPlan plan = plan_conversion(*tiny, {.type = quant::q8_0});
  size_t bytes = 0, elements = 0;
  for (const PlannedTensor& t : plan.tensors) {
    const bool down = t.name == "blk.0.ffn_down.weight", matrix = t.from.shape.rank() > 1;
    EXPECT_EQ(t.fell_back, down) << t.name;
    EXPECT_EQ(t.to.dtype.name(), down ? "f16" : matrix ? "q8_0" : "f32") << t.name;
    bytes += t.to.bytes();
    elements += static_cast<size_t>(t.to.elements());
  }
  EXPECT_EQ(plan.bytes, bytes);
  EXPECT_EQ(plan.elements, elements);
  EXPECT_DOUBLE_EQ(plan.bits_per_weight(), 8.0 * static_cast<double>(bytes) / static_cast<double>(elements));
  expect_message(error_of([&] { plan_conversion(*tiny, {.type = quant::q8_0, .fallback = false}); }),
                 "tiny: tensor blk.0.ffn_down.weight has rows of 50 elements, q8_0 needs whole blocks of 32");
}

TEST(Convert, VectorsAndPositionsStayF32) {
  const auto tiny = tiny_model({.architecture = "gpt2", .type = quant::f16});
  for (const PlannedTensor& t : plan_conversion(*tiny, {.type = quant::bf16}).tensors) {
    const bool kept = t.from.shape.rank() == 1 || t.name == "position_embd.weight";
    EXPECT_EQ(t.to.dtype.name(), kept ? "f32" : "bf16") << t.name;
  }
}

TEST(Convert, SaysWhatTypeTheFileIs) {
  const TempFolder folder;
  const auto tiny = tiny_model({.d_model = 96, .d_ff = 64});
  const auto plain = converted(*tiny, folder.file("a.gguf"), {.type = quant::f16});
  EXPECT_EQ(plain->metadata().integer("general.file_type"), 1);
  EXPECT_FALSE(plain->metadata().has("general.quantization_version"));
  const auto packed = converted(*tiny, folder.file("b.gguf"), {.type = quant::q8_0});
  EXPECT_EQ(packed->metadata().integer("general.file_type"), 7);
  EXPECT_EQ(packed->metadata().integer("general.quantization_version"), 2);
}

TEST(Convert, ProgressEndsWithAllBytes) {
  const TempFolder folder;
  const auto tiny = tiny_model();
  const ConvertPlan plan = plan_conversion(*tiny, {.type = quant::f16});
  size_t last = 0;
  write_gguf(*tiny, plan, folder.file("m.gguf"), [&](size_t done) {
    EXPECT_GT(done, last);
    last = done;
  });
  EXPECT_EQ(last, plan.bytes);
}

TEST(Convert, AnOutputThatCannotBeWrittenLeavesNothing) {
  const TempFolder folder;
  const auto tiny = tiny_model();
  const ConvertPlan plan = plan_conversion(*tiny, {});
  const auto refused = [&](const std::string& path, std::string_view reason) {
    const std::string message = error_of([&] { write_gguf(*tiny, plan, path); });
    expect_message(message, path);
    expect_message(message, reason);
  };
  refused(folder.file("none/m.gguf"), "No such file or directory");
  refused(folder.path(), "is a directory");
  refused("/dev/full", "is not a regular file");
  refused("/proc/self/m.gguf", "");
  EXPECT_EQ(folder.count(), 0u);
}

// The source breaks off in the middle: what was there before is untouched and nothing is left beside it.
TEST(Convert, AFailureOnTheWayLeavesTheOldFile) {
  class Broken final : public Checkpoint {
   public:
    explicit Broken(std::shared_ptr<const Checkpoint> source) : source_(std::move(source)) {}
    const std::string& path() const override { return source_->path(); }
    const Metadata& metadata() const override { return source_->metadata(); }
    const std::vector<std::string>& tensor_names() const override { return source_->tensor_names(); }
    const Tensor* find(std::string_view name) const override {
      return broken && name == "blk.1.ffn_up.weight" ? nullptr : source_->find(name);
    }
    bool broken = false;

   private:
    std::shared_ptr<const Checkpoint> source_;
  };
  const TempFolder folder;
  Broken source(tiny_model());
  const ConvertPlan plan = plan_conversion(source, {});
  folder.write("m.gguf", "before");
  source.broken = true;
  expect_message(error_of([&] { write_gguf(source, plan, folder.file("m.gguf")); }), "blk.1.ffn_up.weight is missing");
  EXPECT_EQ(folder.count(), 1u);
  EXPECT_EQ(read_file(folder.file("m.gguf")), "before");
}

TEST(Convert, TensorsThatAreNoWeightsAreAnError) {
  const auto tiny = tiny_model();
  tiny->set("extra", {quant::i32, {4}}, 1);
  expect_message(error_of([&] { plan_conversion(*tiny, {}); }), "tiny: tensor extra is i32, not a weight type");
}

TEST(Convert, RowsAreConvertedAloneOrTogether) {
  for (const int64_t rows : {1, 2, 3, 67}) {
    const auto values = random_values(static_cast<size_t>(rows) * 64, 3);
    const Tensor from{{quant::f32, {rows, 64}},
                      const_cast<std::byte*>(reinterpret_cast<const std::byte*>(values.data()))};
    std::vector<std::byte> got(TensorType{quant::q8_0, {rows, 64}}.bytes()), expected(got.size());
    convert_tensor(from, quant::q8_0, got.data());
    quant::q8_0.encode(values.data(), expected.data(), values.size(), nullptr);
    EXPECT_EQ(got, expected) << rows << " rows";
  }
}

}  // namespace
}  // namespace weft
