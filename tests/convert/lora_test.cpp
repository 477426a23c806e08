// Adapters merged by convert and applied at run time, both against weights that the test merges itself, in double and
// in the layout of the Hugging Face file.
#include "convert/lora_file.h"

#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <fstream>

#include "convert/gguf_writer.h"
#include "convert/lora_merge.h"
#include "convert/open_model.h"
#include "convert/safetensors.h"
#include "convert/safetensors_writer.h"
#include "convert/weights.h"
#include "ops/quant/f16.h"
#include "ops/quant/f32.h"
#include "tests/convert/temp_folder.h"
#include "tests/models/rig.h"
#include "tests/support/hf_folder.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

std::string golden(const std::string& name) { return shared_folder() + "/golden/models/" + name; }

struct Target {
  std::string module;  // with the prefix of the model class
  int64_t in, out, rank;
  double alpha;  // as adapter_config.json has it
};

/// A PEFT adapter and the same weights merged, side by side.
class Adapted {
 public:
  Adapted(const std::string& base, std::vector<Target> targets, bool conv1d, const std::string& more = "")
      : base_(base), targets_(std::move(targets)), rslora_(more.find("use_rslora") != std::string::npos) {
    std::string ranks, alphas;
    for (const Target& t : targets_) {
      ranks += fmt::format("{}\"{}\": {}", ranks.empty() ? "" : ", ", t.module, t.rank);
      alphas += fmt::format("{}\"{}\": {}", alphas.empty() ? "" : ", ", t.module, t.alpha);
      add(t.module + ".lora_A.weight", {t.rank, t.in}, 0.3);
      add(t.module + ".lora_B.weight", {t.out, t.rank}, 0.3);
    }
    write_config(fmt::format(R"({{"peft_type": "LORA", "r": 99, "lora_alpha": 1, "bias": "none", "fan_in_fan_out": {},
        "rank_pattern": {{{}}}, "alpha_pattern": {{{}}}, "use_dora": false, "modules_to_save": null{}}})",
                             conv1d, ranks, alphas, more));
    write_safetensors(folder_.file("adapter_model.safetensors"), tensors_);
    merge(conv1d);
  }

  std::string path() const { return folder_.path(); }
  std::string merged_folder() const { return merged_.path(); }
  void write_config(const std::string& text) { folder_.write("adapter_config.json", text); }
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  const std::vector<Target>& targets() const { return targets_; }

 private:
  void add(const std::string& name, const Shape& shape, double scale) {
    values_.push_back(random_values(static_cast<size_t>(shape.elements()), values_.size() + 7, scale));
    tensors_.push_back(
        {"base_model.model." + name, {{quant::f32, shape}, reinterpret_cast<std::byte*>(values_.back().data())}});
  }

  void merge(bool conv1d) {
    const WeightsFolder files(base_);
    std::vector<NamedTensor> all;
    std::deque<std::vector<float>> kept;
    for (const std::string& name : files.names()) {
      const LoadedTensor from = files.tensor(name).load();
      std::vector<float>& values = kept.emplace_back(static_cast<size_t>(from->type.elements()));
      from->type.dtype->decode(from->data, values.data(), values.size());
      for (size_t i = 0; i < targets_.size(); ++i) {
        const Target& t = targets_[i];
        const std::string weight = t.module + ".weight";
        if (name != weight && "transformer." + name != weight && "model." + name != weight) continue;
        const double scale = t.alpha / (rslora_ ? std::sqrt(static_cast<double>(t.rank)) : static_cast<double>(t.rank));
        for (int64_t o = 0; o < t.out; ++o) {
          for (int64_t c = 0; c < t.in; ++c) {
            double sum = 0;
            for (int64_t r = 0; r < t.rank; ++r) {
              sum += static_cast<double>(values_[2 * i + 1][static_cast<size_t>(o * t.rank + r)]) *
                     static_cast<double>(values_[2 * i][static_cast<size_t>(r * t.in + c)]);
            }
            float& v = values[static_cast<size_t>(conv1d ? c * t.out + o : o * t.in + c)];
            v = static_cast<float>(static_cast<double>(v) + scale * sum);
          }
        }
        ++merged_weights_;
      }
      all.push_back({name, {{quant::f32, from->type.shape}, reinterpret_cast<std::byte*>(values.data())}});
    }
    require(merged_weights_ == targets_.size(), "the test names weights that are not there");
    write_safetensors(merged_.file("model.safetensors"), all);
    std::filesystem::copy_file(base_ + "/config.json", merged_.file("config.json"));
  }

  TempFolder folder_, merged_;
  std::string base_;
  std::vector<Target> targets_;
  bool rslora_;
  size_t merged_weights_ = 0;
  std::deque<std::vector<float>> values_;
  std::vector<NamedTensor> tensors_;
};

const std::vector<int32_t> kIds = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6};
constexpr double kMost = 1e-5;  // of the logits' deviation

void expect_same(const std::string& base, const Adapted& adapted) {
  const std::vector<float> expected = Rig(open_checkpoint(adapted.merged_folder())).logits(kIds);
  const auto checkpoint = open_checkpoint(base);
  const LoraAdapter adapter = read_lora({adapted.path()}, *checkpoint);
  ASSERT_GT(difference(Rig(checkpoint).logits(kIds), expected), 0.01) << "the adapter does nothing";
  EXPECT_LE(difference(Rig(merged(checkpoint, {adapter})).logits(kIds), expected), kMost) << "merged";
  for (const char* backend : {"ref", "cpu"}) {
    Rig rig(checkpoint, Rig::exact(backend));
    rig.adapt(adapter);
    EXPECT_LE(difference(rig.logits(kIds), expected), kMost) << "applied, " << backend;
    EXPECT_LE(difference(rig.logits(kIds, 4), expected), kMost) << "applied, in pieces, " << backend;
  }
  Rig unscaled(checkpoint);
  unscaled.adapt(read_lora({adapted.path(), 0}, *checkpoint));
  EXPECT_LE(difference(unscaled.logits(kIds), Rig(checkpoint).logits(kIds)), kMost) << "scale 0";
}

/// In and out features of a Linear of a golden folder, or of a Conv1D.
Target target(const std::string& folder, const std::string& module, int64_t rank, double alpha, bool conv1d = false) {
  const WeightsFolder files(folder);
  for (const std::string& name : {module + ".weight", module.substr(module.find('.') + 1) + ".weight"}) {
    if (!files.has(name)) continue;
    const Shape shape = files.tensor(name).type.shape;
    return {module, shape[conv1d ? 0 : 1], shape[conv1d ? 1 : 0], rank, alpha};
  }
  fail("{} has no {}", folder, module);
}

TEST(Lora, LlamaPermutedRowsAndStackedBlocks) {
  const std::string base = golden("llama");
  if (!std::filesystem::exists(base)) GTEST_SKIP();
  const Adapted adapted(
      base,
      {target(base, "model.layers.0.self_attn.q_proj", 4, 8), target(base, "model.layers.0.self_attn.v_proj", 2, 3),
       target(base, "model.layers.1.self_attn.k_proj", 3, 6), target(base, "model.layers.1.mlp.gate_proj", 4, 4),
       target(base, "model.layers.0.mlp.down_proj", 1, 1)},
      false);
  expect_same(base, adapted);
}

TEST(Lora, Gpt2Conv1d) {
  const std::string base = golden("gpt2");
  if (!std::filesystem::exists(base)) GTEST_SKIP();
  const Adapted adapted(
      base,
      {target(base, "transformer.h.0.attn.c_attn", 4, 2, true), target(base, "transformer.h.1.mlp.c_proj", 3, 5, true)},
      true, R"(, "use_rslora": true)");
  expect_same(base, adapted);
}

TEST(Lora, FusedQkvOfNeoxAndFalcon) {
  for (const auto& [name, module] : {std::pair("gpt_neox", "gpt_neox.layers.0.attention.query_key_value"),
                                     std::pair("falcon", "transformer.h.1.self_attention.query_key_value")}) {
    const std::string base = golden(name);
    if (!std::filesystem::exists(base)) GTEST_SKIP();
    const Adapted adapted(base, {target(base, module, 4, 8)}, false);
    expect_same(base, adapted);
  }
}

TEST(Lora, SomeExpertsOfSome) {
  const HfFolder base{std::string(kMixtralConfig)};
  const auto expert = [](int layer, int e, const char* w) {
    return fmt::format("model.layers.{}.block_sparse_moe.experts.{}.{}", layer, e, w);
  };
  const Adapted adapted(
      base.path(),
      {{expert(0, 0, "w1"), 16, 20, 2, 3}, {expert(0, 2, "w1"), 16, 20, 2, 5}, {expert(1, 1, "w2"), 20, 16, 3, 3}},
      false);
  expect_same(base.path(), adapted);
}

// The same adapter as GGUF programs write it: base tensor names, alpha for all, factors in f16 or f32.
TEST(Lora, GgufAdapters) {
  const std::string base = golden("gpt2");
  if (!std::filesystem::exists(base)) GTEST_SKIP();
  const Adapted adapted(base, {target(base, "transformer.h.0.attn.c_attn", 4, 2, true)}, true);
  TempFolder folder;
  Metadata metadata;
  metadata.set("general.architecture", std::string("gpt2"));
  metadata.set("general.type", std::string("adapter"));
  metadata.set("adapter.type", std::string("lora"));
  metadata.set("adapter.lora.alpha", 2.0f);
  const auto write = [&](std::string_view name) {
    std::vector<NamedType> list;
    for (size_t i = 0; i < 2; ++i) {
      list.push_back(
          {fmt::format("blk.0.attn_qkv.weight.lora_{}", i == 0 ? "a" : "b"), adapted.tensors()[i].tensor.type});
    }
    GgufWriter writer(folder.file(name), metadata, list);
    for (size_t i = 0; i < 2; ++i)
      writer.write(adapted.tensors()[i].tensor.data, adapted.tensors()[i].tensor.type.bytes());
    writer.finish();
  };
  write("a.gguf");
  const auto checkpoint = open_checkpoint(base);
  const auto expected = Rig(open_checkpoint(adapted.merged_folder())).logits(kIds);
  Rig rig(checkpoint);
  rig.adapt(read_lora({folder.file("a.gguf")}, *checkpoint));
  EXPECT_LE(difference(rig.logits(kIds), expected), kMost);
  Rig half(checkpoint);  // two adapters add up
  half.adapt(read_lora({folder.file("a.gguf"), 0.25f}, *checkpoint));
  half.adapt(read_lora({adapted.path(), 0.75f}, *checkpoint));
  EXPECT_LE(difference(half.logits(kIds), expected), kMost);

  metadata.set("general.architecture", std::string("llama"));
  write("other.gguf");
  EXPECT_THROW(read_lora({folder.file("other.gguf")}, *checkpoint), Error);
  metadata.set("general.type", std::string("model"));
  write("model.gguf");
  EXPECT_THROW(read_lora({folder.file("model.gguf")}, *checkpoint), Error);
}

TEST(Lora, WhatDoesNotFitIsOneError) {
  const HfFolder base{std::string(kLlamaConfig)};
  const HfFolder other{std::string(kGpt2Config)};
  const auto checkpoint = open_checkpoint(base.path());
  const Target q{"model.layers.0.self_attn.q_proj", 16, 16, 2, 2};
  Adapted adapted(base.path(), {q}, false);
  const auto error = [&](const std::string& config, const Checkpoint& model) -> std::string {
    adapted.write_config(config);
    try {
      read_lora({adapted.path()}, model);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  const auto with = [](const std::string& more) {
    return R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2)" + more + "}";
  };
  EXPECT_EQ(error(with(""), *checkpoint), "no error");
  // Patterns are of the module's name without PEFT's wrapper.
  const std::string rank_3 = R"({"peft_type": "LORA", "lora_alpha": 2, "r": 3, "rank_pattern": )";
  EXPECT_EQ(error(rank_3 + R"({"^model.layers.0.self_attn.q_proj$": 2}})", *checkpoint), "no error");
  EXPECT_EQ(error(rank_3 + R"({"q_proj": 2, "self_attn.q_proj": 2}})", *checkpoint), "no error");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {with(R"(, "use_dora": true)"), "use_dora"},
      {with(R"(, "modules_to_save": ["lm_head"])"), "modules_to_save"},
      {with(R"(, "bias": "all")"), "bias"},
      {with(R"(, "lora_bias": true)"), "lora_bias"},
      {with(R"(, "init_lora_weights": "pissa")"), "pissa"},
      {with(R"(, "layer_replication": [[0, 1]])"), "layer_replication"},
      {with(R"(, "rank_pattern": {"q_proj": 3})"), "rank 2"},
      {with(R"(, "rank_pattern": {"(": 3})"), "regex"},
      {with(R"(, "alpha_pattern": {"q_proj": 3, ".*q_proj": 4})"), "leave one of the patterns"},
      {with(R"(, "surprise": 1)"), "surprise"},
      {R"({"peft_type": "IA3"})", "IA3"},
      {"{", "adapter_config.json"},
  };
  for (const auto& [config, word] : cases) {
    const std::string message = error(config, *checkpoint);
    EXPECT_TRUE(message.starts_with(adapted.path())) << message;
    EXPECT_NE(message.find(word), std::string::npos) << config << ": " << message;
  }
  EXPECT_NE(error(with(""), *open_checkpoint(other.path())).find("q_proj"), std::string::npos);
  for (const Target& wrong : {Target{q.module, 12, 16, 2, 2}, Target{q.module, 16, 12, 2, 2}}) {
    std::vector<float> zeros(1024);
    auto* bytes = reinterpret_cast<std::byte*>(zeros.data());
    write_safetensors(adapted.path() + "/adapter_model.safetensors",
                      std::vector<NamedTensor>{{q.module + ".lora_A.weight", {{quant::f32, {2, wrong.in}}, bytes}},
                                               {q.module + ".lora_B.weight", {{quant::f32, {wrong.out, 2}}, bytes}}});
    EXPECT_NE(error(with(""), *checkpoint), "no error") << wrong.in << " " << wrong.out;
  }
  EXPECT_THROW(read_lora({"/nowhere/adapter"}, *checkpoint), Error);
}

TEST(Lora, FileAndScale) {
  EXPECT_EQ(parse_lora("a/b").path, "a/b");
  EXPECT_EQ(parse_lora("a/b").scale, 1);
  EXPECT_EQ(parse_lora("a=b=0.5").path, "a=b");
  EXPECT_EQ(parse_lora("a=b=0.5").scale, 0.5f);
  EXPECT_EQ(parse_lora("a=b").path, "a=b");
}

}  // namespace
}  // namespace weft
