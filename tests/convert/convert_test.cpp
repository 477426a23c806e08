#include "convert/convert.h"

#include <gtest/gtest.h>

#include <cstring>

#include "convert/gguf_reader.h"
#include "convert/gguf_writer.h"
#include "convert/hf_checkpoint.h"
#include "convert/sha256.h"
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
  for (const PlannedTensor& tensor : plan_conversion(HfCheckpoint(folder.path()), {.type = "q8_0"}).tensors) {
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
    for (const std::string_view asked : {std::string_view(), type.name()}) {
      const auto second = converted(*first, folder.file("second.gguf"), {.type = std::string(asked)});
      EXPECT_EQ(second->tensor_names(), first->tensor_names());
      for (const std::string& name : first->tensor_names()) {
        const LoadedTensor a = first->load(name), b = second->load(name);
        ASSERT_EQ(a->type, b->type) << name;
        EXPECT_EQ(std::memcmp(a->data, b->data, a->type.bytes()), 0) << name;
      }
      EXPECT_TRUE(read_file(folder.file("first.gguf")) == read_file(folder.file("second.gguf")));
    }
  }
}

TEST(Convert, TypesThatBlocksDoNotDivideFallBack) {
  const auto tiny = tiny_model({.n_layer = 1, .d_model = 32, .n_head = 2, .d_ff = 50});
  const ConvertPlan plan = plan_conversion(*tiny, {.type = "q8_0"});
  size_t bytes = 0, elements = 0;
  for (const PlannedTensor& t : plan.tensors) {
    const bool down = t.name == "blk.0.ffn_down.weight", matrix = t.from.shape.rank() > 1;
    EXPECT_EQ(t.fell_back(), down) << t.name;
    EXPECT_EQ(t.to.dtype.name(), down ? "f16" : matrix ? "q8_0" : "f32") << t.name;
    bytes += t.to.bytes();
    elements += static_cast<size_t>(t.to.elements());
  }
  EXPECT_EQ(plan.bytes, bytes);
  EXPECT_EQ(plan.elements, elements);
  EXPECT_DOUBLE_EQ(plan.bits_per_weight(), 8.0 * static_cast<double>(bytes) / static_cast<double>(elements));
  expect_message(error_of([&] { plan_conversion(*tiny, {.type = "q8_0", .fallback = false}); }),
                 "tiny: tensor blk.0.ffn_down.weight has rows of 50 elements, q8_0 needs whole blocks of 32");
}

TEST(Convert, VectorsAndPositionsStayF32) {
  const auto tiny = tiny_model({.architecture = "gpt2", .type = quant::f16});
  for (const PlannedTensor& t : plan_conversion(*tiny, {.type = "bf16"}).tensors) {
    const bool kept = t.from.shape.rank() == 1 || t.name == "position_embd.weight";
    EXPECT_EQ(t.to.dtype.name(), kept ? "f32" : "bf16") << t.name;
  }
}

TEST(Convert, SaysWhatTypeTheFileIs) {
  const TempFolder folder;
  const auto tiny = tiny_model({.d_model = 96, .d_ff = 64});
  const auto plain = converted(*tiny, folder.file("a.gguf"), {.type = "f16"});
  EXPECT_EQ(plain->metadata().integer("general.file_type"), 1);
  EXPECT_FALSE(plain->metadata().has("general.quantization_version"));
  const auto packed = converted(*tiny, folder.file("b.gguf"), {.type = "q8_0"});
  EXPECT_EQ(packed->metadata().integer("general.file_type"), 7);
  EXPECT_EQ(packed->metadata().integer("general.quantization_version"), 2);
}

TEST(Convert, ProgressEndsWithAllBytes) {
  const TempFolder folder;
  const auto tiny = tiny_model();
  const ConvertPlan plan = plan_conversion(*tiny, {.type = "f16"});
  size_t last = 0;
  write_gguf(*tiny, plan, folder.file("m.gguf"), {.progress = [&](size_t done) {
    EXPECT_GT(done, last);
    last = done;
  }});
  EXPECT_EQ(last, plan.bytes);
}

// What the user can compare with sha256sum of the bytes in the file.
TEST(Convert, HashesEveryTensorAsWritten) {
  const TempFolder folder;
  const auto tiny = tiny_model({.d_model = 96, .d_ff = 64});
  tiny->set("none.weight", {quant::f32, {0, 32}}, 1);
  std::vector<std::pair<std::string, std::string>> hashes;
  write_gguf(*tiny, plan_conversion(*tiny, {.type = "q8_0"}), folder.file("m.gguf"),
             {.hashed = [&](std::string_view name, std::string_view hash) { hashes.emplace_back(name, hash); }});
  const GgufFile file(folder.file("m.gguf"));
  ASSERT_EQ(hashes.size(), file.tensor_names().size());
  for (size_t i = 0; i < hashes.size(); ++i) {
    EXPECT_EQ(hashes[i].first, file.tensor_names()[i]) << "in file order";
    const LoadedTensor tensor = file.load(hashes[i].first);
    Sha256 hash;
    hash.add({tensor->data, tensor->type.bytes()});
    EXPECT_EQ(hashes[i].second, hash.finish()) << hashes[i].first;
  }
}

// Several slabs a tensor, more workers than cores, rows that are larger than a slab.
TEST(Convert, LargeTensorsGoThroughInSlabs) {
  const TempFolder folder;
  const auto tiny = tiny_model({.d_model = 96, .d_ff = 64});
  tiny->set("long.weight", {quant::f32, {5, 3 << 20}}, 1);
  tiny->set("tall.weight", {quant::f32, {50'001, 96}}, 2);
  const auto file = converted(*tiny, folder.file("m.gguf"), {.type = "q8_0"});
  for (const char* name : {"long.weight", "tall.weight"}) {
    const LoadedTensor got = file->load(name);
    std::vector<std::byte> expected(got->type.bytes());
    quant::q8_0.encode(tiny->at(name).as<float>(), expected.data(), static_cast<size_t>(got->type.elements()), nullptr);
    EXPECT_EQ(std::memcmp(got->data, expected.data(), expected.size()), 0) << name;
  }
}

TEST(Convert, OverridesWinOverTheMix) {
  const auto tiny = tiny_model({.n_layer = 3, .d_model = 256, .n_head = 4, .d_ff = 512});
  const auto types = [&](std::vector<std::string> rules) {
    ConvertOptions options{.type = "q4_K"};
    for (const std::string& rule : rules) options.overrides.push_back(parse_override(rule));
    std::map<std::string, std::string_view> out;
    for (const PlannedTensor& t : plan_conversion(*tiny, options).tensors) out[t.name] = t.to.dtype.name();
    return out;
  };
  auto got = types({"blk.*.ffn_down.weight=q6_K", "blk.1.*=q8_0"});
  EXPECT_EQ(got["blk.0.ffn_down.weight"], "q6_K");
  EXPECT_EQ(got["blk.1.ffn_down.weight"], "q8_0") << "the last that matches";
  EXPECT_EQ(got["blk.1.attn_norm.weight"], "f32") << "vectors are f32 whatever the override says";
  EXPECT_EQ(got["blk.2.attn_q.weight"], "q4_K");
  EXPECT_EQ(types({"*=f16"})["output.weight"], "f16");
  expect_message(error_of([&] { types({"blk.9.*=f16"}); }),
                 "tiny: no matrix is called blk.9.*, which an override is for");
  expect_message(error_of([&] { types({"*_norm.weight=f16"}); }), "no matrix is called *_norm.weight");
  expect_message(error_of([] { parse_override("q6_K"); }), "--override q6_K: expected PATTERN=type");
  expect_message(error_of([] { parse_override("=q6_K"); }), "expected PATTERN=type");
  expect_message(error_of([] { parse_override("a=q4_K_M"); }), "there is no type q4_K_M");
  expect_message(error_of([] { parse_override("a=iq1_s"); }), "weft reads iq1_s but cannot write it");
}

// A file of another program, its metadata and its types as they were.
TEST(Convert, WithoutATypeEveryTensorStaysAsItIs) {
  const std::string golden = shared_folder() + "/golden/gguf/union-q4_0.gguf";
  if (!std::filesystem::exists(golden)) GTEST_SKIP() << golden << " is absent";
  const TempFolder folder;
  const GgufFile source(golden);
  for (const char* type : {"", "q4_0"}) {
    const auto copy = converted(source, folder.file("m.gguf"), {.type = type});
    EXPECT_EQ(copy->tensor_names(), source.tensor_names());
    for (const std::string& name : source.tensor_names()) {
      const LoadedTensor a = source.load(name), b = copy->load(name);
      ASSERT_EQ(a->type, b->type) << name << " as " << type;
      EXPECT_EQ(std::memcmp(a->data, b->data, a->type.bytes()), 0) << name;
    }
    for (const auto& [key, value] : source.metadata().entries()) {
      ASSERT_NE(copy->metadata().find(key), nullptr) << key;
      EXPECT_EQ(*copy->metadata().find(key), value) << key;
    }
  }
}

TEST(Convert, ShardsReadAsOneFile) {
  const TempFolder folder;
  const auto tiny = tiny_model({.d_model = 96, .d_ff = 64});
  const auto whole = converted(*tiny, folder.file("whole.gguf"), {.type = "q8_0"});
  const std::vector<std::string>& names = whole->tensor_names();
  constexpr size_t kShards = 3;
  for (size_t shard = 0; shard < kShards; ++shard) {
    Metadata metadata = shard == 0 ? whole->metadata() : Metadata();
    metadata.set("split.no", static_cast<uint16_t>(shard));
    metadata.set("split.count", static_cast<uint16_t>(kShards));
    metadata.set("split.tensors.count", static_cast<int32_t>(names.size()));
    const std::span part = std::span(names).subspan(
        names.size() * shard / kShards, names.size() * (shard + 1) / kShards - names.size() * shard / kShards);
    std::vector<NamedType> types;
    for (const std::string& name : part) types.push_back({name, *whole->type(name)});
    GgufWriter writer(folder.file(fmt::format("m-0000{}-of-00003.gguf", shard + 1)), metadata, types);
    for (const std::string& name : part) writer.write(whole->load(name)->data, whole->type(name)->bytes());
    writer.finish();
  }
  const GgufFile sharded(folder.file("m-00001-of-00003.gguf"));
  for (const char* type : {"", "q8_0", "q4_0"}) {
    converted(sharded, folder.file("a.gguf"), {.type = type});
    converted(*whole, folder.file("b.gguf"), {.type = type});
    EXPECT_TRUE(read_file(folder.file("a.gguf")) == read_file(folder.file("b.gguf"))) << "the files differ as " << type;
  }
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
    const TensorType* type(std::string_view name) const override { return source_->type(name); }
    LoadedTensor rows(std::string_view name, int64_t first, int64_t last) const override {
      require(!broken || name != "blk.1.ffn_up.weight", "the source is gone");
      return source_->rows(name, first, last);
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
  expect_message(error_of([&] { write_gguf(source, plan, folder.file("m.gguf")); }), "the source is gone");
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
