#include "convert/hf_checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "convert/safetensors_writer.h"
#include "models/model.h"
#include "ops/quant/f16.h"
#include "ops/quant/mxfp4.h"
#include "tests/support/hf_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

std::vector<float> values_of(const LoadedTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor->type.elements()));
  tensor->type.dtype->decode(tensor->data, values.data(), values.size());
  return values;
}

/// Element (r, c) holds 100 r + c, so that every element says where it came from.
void number(HfFolder& folder, std::string_view name) {
  const Tensor& tensor = folder.at(name);
  const int64_t columns = tensor.type.shape.columns();
  for (int64_t i = 0; i < tensor.type.elements(); ++i) {
    tensor.as<float>()[i] = static_cast<float>(100 * (i / columns) + i % columns);
  }
}

/// Which row of the file each row of the tensor is.
std::vector<int> rows_of(const LoadedTensor& tensor) {
  const std::vector<float> values = values_of(tensor);
  const auto columns = static_cast<size_t>(tensor->type.shape.columns());
  std::vector<int> rows;
  for (size_t at = 0; at < values.size(); at += columns) {
    rows.push_back(static_cast<int>(values[at]) / 100);
    for (size_t c = 0; c < columns; ++c) {
      EXPECT_EQ(values[at + c], values[at] + static_cast<float>(c)) << "a row was torn apart";
    }
  }
  return rows;
}

TEST(HfCheckpoint, TransposesGpt2sConv1d) {
  HfFolder folder{std::string(kGpt2Config)};
  number(folder, "transformer.h.1.attn.c_attn.weight");  // [12, 36], in then out
  folder.write();
  const HfCheckpoint checkpoint(folder.path());
  const LoadedTensor tensor = checkpoint.load("blk.1.attn_qkv.weight");
  ASSERT_EQ(tensor->type, (TensorType{quant::f32, {36, 12}}));
  for (int out = 0; out < 36; ++out) {
    for (int in = 0; in < 12; ++in) EXPECT_EQ(tensor->as<float>()[out * 12 + in], static_cast<float>(100 * in + out));
  }
  EXPECT_EQ(checkpoint.type("token_embd.weight")->shape, (Shape{17, 12})) << "embeddings are not Conv1D";
}

TEST(HfCheckpoint, TransposesTypesOfTwoBytes) {
  HfFolder folder{std::string(kGpt2Config)};
  const std::string name = "transformer.h.0.mlp.c_fc.weight";
  number(folder, name);
  std::vector<std::byte> half(folder.at(name).type.bytes() / 2);
  quant::f16.encode(folder.at(name).as<float>(), half.data(), half.size() / 2, nullptr);
  folder.drop(name);
  folder.tensors().push_back({name, {{quant::f16, {12, 20}}, half.data()}});
  folder.write();
  const HfCheckpoint checkpoint(folder.path());
  const LoadedTensor tensor = checkpoint.load("blk.0.ffn_up.weight");
  ASSERT_EQ(tensor->type, (TensorType{quant::f16, {20, 12}}));
  EXPECT_EQ(values_of(tensor)[3 * 12 + 5], 503) << "row 3, column 5 is (5, 3) of the file";
}

TEST(HfCheckpoint, MakesRotaryPairsNeighbours) {
  HfFolder folder{std::string(kLlamaConfig)};  // heads of 4
  number(folder, "model.layers.0.self_attn.q_proj.weight");
  number(folder, "model.layers.0.self_attn.k_proj.weight");
  number(folder, "model.layers.0.self_attn.v_proj.weight");
  folder.write();
  const HfCheckpoint checkpoint(folder.path());
  EXPECT_EQ(rows_of(checkpoint.load("blk.0.attn_q.weight")),
            (std::vector<int>{0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15}));
  EXPECT_EQ(rows_of(checkpoint.load("blk.0.attn_k.weight")), (std::vector<int>{0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(rows_of(checkpoint.load("blk.0.attn_v.weight")), (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(HfCheckpoint, SplitsQkvByPart) {
  HfFolder folder{std::string(kNeoxConfig)};  // two heads of 8, each [q, k, v]
  number(folder, "gpt_neox.layers.1.attention.query_key_value.weight");
  folder.add("gpt_neox.layers.1.attention.query_key_value.bias", {48});
  folder.write();
  const HfCheckpoint checkpoint(folder.path());
  std::vector<int> expected;
  for (const int part : {0, 1, 2}) {
    for (const int head : {0, 1}) {
      for (int d = 0; d < 8; ++d) expected.push_back((head * 3 + part) * 8 + d);
    }
  }
  EXPECT_EQ(rows_of(checkpoint.load("blk.1.attn_qkv.weight")), expected);
  // The bias goes the same way.
  const auto bias = values_of(LoadedTensor(folder.at("gpt_neox.layers.1.attention.query_key_value.bias")));
  const auto split = values_of(checkpoint.load("blk.1.attn_qkv.bias"));
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(split[i], bias[static_cast<size_t>(expected[i])]);
}

TEST(HfCheckpoint, SplitsQkvOfGroups) {
  // Heads of 2; each group is [q, q, q, k, v].
  HfFolder folder{R"({"model_type": "falcon", "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 6,
      "num_kv_heads": 2, "new_decoder_architecture": true, "vocab_size": 17})"};
  number(folder, "transformer.h.0.self_attention.query_key_value.weight");
  folder.write();
  EXPECT_EQ(rows_of(HfCheckpoint(folder.path()).load("blk.0.attn_qkv.weight")),
            (std::vector<int>{0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 6, 7, 16, 17, 8, 9, 18, 19}));
}

TEST(HfCheckpoint, TiedOrNotGoesByTheConfig) {
  const auto folder_with = [](std::string_view tied, bool has_head) {
    std::string config(kLlamaConfig);
    if (!tied.empty()) config.insert(config.rfind('}'), fmt::format(", \"tie_word_embeddings\": {}", tied));
    auto folder = std::make_unique<HfFolder>(config);
    if (has_head) folder->add("lm_head.weight", {17, 16});
    folder->write();
    return folder;
  };
  const auto has_output = [&](std::string_view tied, bool has_head) {
    return HfCheckpoint(folder_with(tied, has_head)->path()).type("output.weight") != nullptr;
  };
  EXPECT_FALSE(has_output("true", true)) << "the file's own matrix plays no part";
  EXPECT_FALSE(has_output("true", false));
  EXPECT_TRUE(has_output("false", true));
  EXPECT_TRUE(has_output("", true)) << "unsaid: by what is there";
  EXPECT_FALSE(has_output("", false));
  expect_message(error_of([&] { has_output("false", false); }),
                 "tensor lm_head.weight is missing, and tie_word_embeddings is false: a base model was saved");
}

// gpt-oss: experts in mxfp4 as blocks and scales of bytes, with and without the prefix.
TEST(HfCheckpoint, ReadsPackedExperts) {
  for (const std::string prefix : {"model.", ""}) {
    HfFolder folder{R"({"model_type": "gpt_oss", "hidden_size": 32, "max_position_embeddings": 50,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
        "intermediate_size": 32, "vocab_size": 17, "num_local_experts": 2, "num_experts_per_tok": 1})"};
    for (NamedTensor& tensor : folder.tensors()) tensor.name = prefix + tensor.name.substr(6);
    std::vector<std::byte> ones(2 * 64 * 16, std::byte{0x22}), exponents(2 * 64, std::byte{127});  // of 1 and 2^0
    const std::string experts = prefix + "layers.0.mlp.experts.";
    folder.add(experts + "gate_up_proj_bias", {2, 64});
    for (const auto& [name, rows] : {std::pair("gate_up_proj", 64), std::pair("down_proj", 32)}) {
      folder.drop(experts + name);
      folder.tensors().push_back({experts + name + "_blocks", {{quant::i32, {2, rows, 1, 4}}, ones.data()}});
      folder.tensors().push_back({experts + name + "_scales", {{quant::i32, {2, rows / 4, 1}}, exponents.data()}});
    }
    folder.write();
    std::string bytes = read_file(folder.file("model.safetensors"));  // the writer has no bytes, the file gets them
    for (const auto& [words, octets] : {std::pair(R"("I32","shape":[2,64,1,4])", R"("U8","shape":[2,64,1,16])"),
                                        std::pair(R"("I32","shape":[2,16,1])", R"("U8","shape":[2,64,1] )"),
                                        std::pair(R"("I32","shape":[2,32,1,4])", R"("U8","shape":[2,32,1,16])"),
                                        std::pair(R"("I32","shape":[2,8,1])", R"("U8","shape":[2,32,1])")}) {
      bytes.replace(bytes.find(words), std::string_view(words).size(), octets);
    }
    std::ofstream(folder.file("model.safetensors"), std::ios::binary) << bytes;
    const HfCheckpoint checkpoint(folder.path());
    for (const char* name : {"blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight"}) {
      ASSERT_EQ(*checkpoint.type(name), (TensorType{quant::mxfp4, {2, 32, 32}})) << prefix;
      EXPECT_EQ(values_of(checkpoint.load(name)), std::vector<float>(2 * 32 * 32, 1));
    }
  }
}

// As AutoModel.save_pretrained writes them: the tensors of the base model, without its name in front of theirs.
TEST(HfCheckpoint, BaseModelsHaveNoPrefix) {
  for (const std::string_view config : {kGpt2Config, kLlamaConfig, kMixtralConfig, kNeoxConfig}) {
    const HfFolder prefixed{std::string(config)};
    const HfCheckpoint whole(prefixed.path());
    HfFolder base{std::string(config)};
    for (NamedTensor& tensor : base.tensors()) tensor.name.erase(0, tensor.name.find('.') + 1);
    base.write();
    const HfCheckpoint got(base.path());
    ASSERT_EQ(got.tensor_names(), whole.tensor_names()) << config;
    for (const std::string& name : whole.tensor_names())
      EXPECT_EQ(values_of(got.load(name)), values_of(whole.load(name)));
    const std::string lost = base.tensors().back().name;
    base.drop(lost);
    base.write();
    expect_message(error_of([&] { HfCheckpoint(base.path()); }), fmt::format("tensor {} is missing", lost));
  }
}

TEST(HfCheckpoint, StacksExperts) {
  const HfFolder folder{std::string(kMixtralConfig)};
  const HfCheckpoint checkpoint(folder.path());
  const LoadedTensor stacked = checkpoint.load("blk.1.ffn_down_exps.weight");
  ASSERT_EQ(stacked->type.shape, (Shape{3, 16, 20}));
  for (size_t e = 0; e < 3; ++e) {
    const Tensor& one = folder.at(fmt::format("model.layers.1.block_sparse_moe.experts.{}.w2.weight", e));
    EXPECT_EQ(std::memcmp(stacked->data + e * one.type.bytes(), one.data, one.type.bytes()), 0) << "expert " << e;
  }
  EXPECT_EQ(checkpoint.type("blk.1.ffn_gate_exps.weight")->shape, (Shape{3, 20, 16}));
}

/// The folder's experts as transformers 5 stacks them: gate over up, and the router's name under mlp.
void stack_as_transformers_5(HfFolder& folder, int64_t layers, int64_t experts) {
  for (int64_t i = 0; i < layers; ++i) {
    const std::string old = fmt::format("model.layers.{}.block_sparse_moe.", i);
    const std::string now = fmt::format("model.layers.{}.mlp.", i);
    const Shape up = folder.at(old + "experts.0.w1.weight").type.shape;
    folder.add(now + "experts.gate_up_proj", {experts, 2 * up[0], up[1]});
    folder.add(now + "experts.down_proj", {experts, up[1], up[0]});
    folder.add(now + "gate.weight", {experts, up[1]});
    const auto copy = [&](const std::string& from, const std::string& to, int64_t at) {
      const Tensor one = folder.at(from);
      std::memcpy(folder.at(to).data + static_cast<size_t>(at) * one.type.bytes(), one.data, one.type.bytes());
      folder.drop(from);
    };
    copy(old + "gate.weight", now + "gate.weight", 0);
    for (int64_t e = 0; e < experts; ++e) {
      const std::string expert = fmt::format("{}experts.{}.", old, e);
      copy(expert + "w1.weight", now + "experts.gate_up_proj", 2 * e);
      copy(expert + "w3.weight", now + "experts.gate_up_proj", 2 * e + 1);
      copy(expert + "w2.weight", now + "experts.down_proj", e);
    }
  }
  folder.write();
}

TEST(HfCheckpoint, ReadsExpertsThatTransformers5Stacked) {
  const HfFolder apart{std::string(kMixtralConfig)};
  HfFolder stacked{std::string(kMixtralConfig)};
  stack_as_transformers_5(stacked, 2, 3);
  const HfCheckpoint expected(apart.path()), got(stacked.path());
  ASSERT_EQ(got.tensor_names(), expected.tensor_names());
  for (const std::string& name : expected.tensor_names()) {
    const LoadedTensor a = got.load(name), b = expected.load(name);
    ASSERT_EQ(a->type.shape, b->type.shape) << name;
    EXPECT_EQ(std::memcmp(a->data, b->data, b->type.bytes()), 0) << name;
    const int64_t rows = b->type.shape.rows();
    for (int64_t first = 0; first < rows; first += 7) {  // slabs cross from expert to expert
      const int64_t last = std::min(rows, first + 7);
      EXPECT_EQ(
          std::memcmp(got.rows(name, first, last)->data, b->data + static_cast<size_t>(first) * b->type.row_bytes(),
                      static_cast<size_t>(last - first) * b->type.row_bytes()),
          0)
          << name << " " << first;
    }
  }
  stacked.add("model.layers.0.mlp.experts.gate_up_proj", {3, 39, 16});
  stacked.write();
  EXPECT_THROW(HfCheckpoint(stacked.path()), Error);
}

// The converter asks for slabs: each must be what the whole tensor has there, whatever is stacked or reordered.
TEST(HfCheckpoint, AnyRowsAreThoseOfTheWhole) {
  for (const std::string_view config : {kGpt2Config, kLlamaConfig, kMixtralConfig, kNeoxConfig}) {
    const HfFolder folder{std::string(config)};
    const HfCheckpoint checkpoint(folder.path());
    for (const std::string& name : checkpoint.tensor_names()) {
      SCOPED_TRACE(name);
      const LoadedTensor whole = checkpoint.load(name);
      const int64_t rows = whole->type.shape.rows();
      const size_t row_bytes = whole->type.row_bytes();
      for (const int64_t step : {1, 7, 25}) {
        for (int64_t first = 0; first < rows; first += step) {
          const int64_t last = std::min(rows, first + step);
          const LoadedTensor part = checkpoint.rows(name, first, last);
          ASSERT_EQ(part->type.shape, (Shape{last - first, whole->type.shape.columns()}));
          ASSERT_EQ(std::memcmp(part->data, whole->data + static_cast<size_t>(first) * row_bytes,
                                static_cast<size_t>(last - first) * row_bytes),
                    0)
              << "rows " << first << " to " << last;
        }
      }
    }
  }
}

TEST(HfCheckpoint, ThePrefixOfTheClassMayBeAbsent) {
  HfFolder folder{std::string(kGpt2Config)};
  for (NamedTensor& t : folder.tensors()) t.name.erase(0, std::string_view("transformer.").size());
  folder.write();
  EXPECT_NO_THROW(Model(std::make_shared<HfCheckpoint>(folder.path())));
}

TEST(HfCheckpoint, TensorsThatNobodyAsksForAreLeftOut) {
  HfFolder folder{std::string(kGpt2Config)};
  folder.add("transformer.h.0.attn.masked_bias", {1});
  folder.write();
  const HfCheckpoint checkpoint(folder.path());
  for (const std::string& name : checkpoint.tensor_names()) EXPECT_EQ(name.find("masked"), std::string::npos);
}

TEST(HfCheckpoint, WritesWhatTheConfigOnlyImplies) {
  HfFolder folder{std::string(kLlamaConfig)};
  folder.config().insert(folder.config().rfind('}'), R"(, "rope_scaling": {"rope_type": "llama3", "factor": 8,
      "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192})");
  folder.write();
  const auto checkpoint = std::make_shared<HfCheckpoint>(folder.path());
  EXPECT_EQ(*checkpoint->type("rope_freqs.weight"), (TensorType{quant::f32, {2}}));
  EXPECT_EQ(*checkpoint->load("rope_freqs.weight")->as<float>(), 1);
  EXPECT_NE(Model(checkpoint).find("rope_freqs.weight"), nullptr);
}

TEST(HfCheckpoint, WithoutATokenizerThereIsNoVocabulary) {
  const HfFolder folder{std::string(kLlamaConfig)};
  const HfCheckpoint checkpoint(folder.path());
  EXPECT_EQ(checkpoint.metadata().text("tokenizer.ggml.model"), "no_vocab");
  EXPECT_EQ(checkpoint.metadata().text("general.architecture"), "llama");
}

// -- one precise Error each
// ------------------------------------------------------------------------------------------------------

std::string refusal(std::string_view config, const std::function<void(HfFolder&)>& change) {
  HfFolder folder{std::string(config)};
  change(folder);
  folder.write();
  const std::string message = error_of([&] { HfCheckpoint{folder.path()}; });
  EXPECT_EQ(message.find(folder.path()), 0u) << "does not begin with the path: " << message;
  EXPECT_EQ(message.rfind(folder.path()), 0u) << "says the path twice: " << message;
  return message;
}

TEST(HfCheckpoint, MissingTensorsAreNamed) {
  expect_message(refusal(kGpt2Config, [](auto& f) { f.drop("transformer.h.1.ln_2.bias"); }),
                 ": tensor transformer.h.1.ln_2.bias is missing");
  expect_message(
      refusal(kMixtralConfig, [](auto& f) { f.drop("model.layers.0.block_sparse_moe.experts.2.w3.weight"); }),
      ": tensor model.layers.0.block_sparse_moe.experts.2.w3.weight is missing");
  expect_message(refusal(kLlamaConfig, [](auto& f) { f.tensors().clear(); }),
                 "config.json: says 2 layers, the folder has 0 tensors");
}

TEST(HfCheckpoint, WrongShapesAreNamed) {
  expect_message(refusal(kGpt2Config,
                         [](auto& f) {
                           f.add("transformer.h.0.mlp.c_fc.weight", {20, 12});
                         }),
                 "tensor transformer.h.0.mlp.c_fc.weight is f32[20, 12], config.json says [12, 20]");
  expect_message(refusal(kLlamaConfig,
                         [](auto& f) {
                           f.add("model.norm.weight", {16, 1});
                         }),
                 "tensor model.norm.weight is f32[16, 1], config.json says [16]");
  expect_message(refusal(kMixtralConfig,
                         [](auto& f) {
                           f.add("model.layers.1.block_sparse_moe.experts.1.w1.weight", {16, 20});
                         }),
                 "experts.1.w1.weight is f32[16, 20], config.json says [20, 16]");
}

TEST(HfCheckpoint, ExpertsOfDifferentTypesAreAnError) {
  std::vector<std::byte> half(20 * 16 * 2);
  expect_message(refusal(kMixtralConfig,
                         [&](auto& f) {
                           const std::string name = "model.layers.1.block_sparse_moe.experts.2.w1.weight";
                           f.drop(name);
                           f.tensors().push_back({name, {{quant::f16, {20, 16}}, half.data()}});
                         }),
                 "experts.2.w1.weight is f16, its siblings are f32");
}

TEST(HfCheckpoint, ConfigErrorsNameTheFile) {
  const auto with = [](std::string_view from, std::string_view to) {
    return refusal(kLlamaConfig, [&](auto& f) {
      const size_t at = f.config().find(from);
      ASSERT_NE(at, std::string::npos);
      f.config().replace(at, from.size(), to);
    });
  };
  expect_message(with("\"hidden_size\": 16,", ""), "config.json: field hidden_size or n_embd is missing");
  expect_message(with("\"llama\"", "\"whisper\""), "config.json: unknown model_type whisper");
  expect_message(with("\"llama\"", "7"), "config.json: metadata key model_type is i64 (7), expected a string");
  expect_message(with("\"hidden_size\": 16", "\"hidden_size\": 0"), "config.json: llama.embedding_length would be 0");
  expect_message(with("\"hidden_size\": 16", "\"hidden_size\": \"16\""), "config.json: metadata key hidden_size");
  expect_message(with("{", "{,"), "config.json: ");
  expect_message(with("\"num_attention_heads\": 4", "\"num_attention_heads\": 0"), "config.json: ");
  // Heads of 3 have no pairs.
  expect_message(with("\"num_attention_heads\": 4", "\"num_attention_heads\": 4, \"head_dim\": 3"), "");
}

TEST(HfCheckpoint, AConfigOfTooManyLayersIsAnErrorAtOnce) {
  expect_message(refusal(kMixtralConfig,
                         [](auto& f) {
                           const size_t at = f.config().find("\"num_local_experts\": 3");
                           f.config().replace(at, 22, "\"num_local_experts\": 1000000000");
                         }),
                 "experts");
}

TEST(HfCheckpoint, ReadsShards) {
  HfFolder folder{std::string(kGpt2Config)};
  const HfCheckpoint whole(folder.path());
  std::string map;
  for (const size_t shard : {0u, 1u}) {
    std::vector<NamedTensor> part;
    for (size_t i = shard; i < folder.tensors().size(); i += 2) {
      part.push_back(folder.tensors()[i]);
      map += fmt::format("{}\"{}\": \"part-{}.safetensors\"", map.empty() ? "" : ", ", part.back().name, shard);
    }
    write_safetensors(folder.file(fmt::format("part-{}.safetensors", shard)), part);
  }
  std::filesystem::remove(folder.file("model.safetensors"));
  std::ofstream(folder.file("model.safetensors.index.json")) << "{\"weight_map\": {" << map << "}}";
  const HfCheckpoint sharded(folder.path());
  EXPECT_EQ(sharded.tensor_names(), whole.tensor_names());
  for (const std::string& name : whole.tensor_names()) {
    EXPECT_EQ(values_of(sharded.load(name)), values_of(whole.load(name))) << name;
  }
}

}  // namespace
}  // namespace weft
