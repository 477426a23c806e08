#include "models/architecture.h"

#include <gtest/gtest.h>

#include <set>

#include "models/blocks.h"
#include "tests/models/hf_keys.h"

namespace weft {
namespace {

using namespace weft::testing;

TEST(Architecture, IsFoundByBothNames) {
  std::set<std::string_view> names;
  for (const Architecture* a : architectures()) {
    EXPECT_TRUE(names.insert(a->name).second) << a->name << " twice";
    EXPECT_EQ(&find_architecture(a->name), a);
    EXPECT_FALSE(a->hf_model_types.empty());
    for (const std::string_view type : a->hf_model_types) EXPECT_EQ(&find_hf_architecture(type), a);
  }
  EXPECT_EQ(&find_hf_architecture("mixtral"), &find_architecture("llama"));
  expect_message(error_of([] { find_architecture("mamba"); }),
                 "unknown architecture mamba; known are: bloom, falcon, ");
  expect_message(error_of([] { find_architecture(""); }), "unknown architecture");
  expect_message(error_of([] { find_hf_architecture("t5"); }),
                 "unknown model_type t5; known architectures are: bloom, falcon, ");
}

TEST(Architecture, Gpt2FromItsConfig) {
  Metadata m = keys_of(config_of(kGpt2));
  EXPECT_EQ(m.integer("gpt2.feed_forward_length"), 48) << "four times the width";
  EXPECT_EQ(m.integer("gpt2.context_length"), 50);
  EXPECT_FLOAT_EQ(static_cast<float>(m.real("gpt2.attention.layer_norm_epsilon")), 1e-5f);
  EXPECT_FALSE(m.has("gpt2.hidden_activation")) << "the default is not written";
  EXPECT_FALSE(m.has("gpt2.attention.scale"));
  m = keys_of(config_of(kGpt2, R"("n_inner": 7, "activation_function": "relu", "scale_attn_weights": false,
                                  "scale_attn_by_inverse_layer_idx": true, "layer_norm_epsilon": 0.5)"));
  EXPECT_EQ(m.integer("gpt2.feed_forward_length"), 7);
  EXPECT_EQ(m.text("gpt2.hidden_activation"), "relu");
  EXPECT_EQ(m.real("gpt2.attention.scale"), 1);
  EXPECT_TRUE(m.boolean("gpt2.attention.scale_by_inverse_layer_index"));
  EXPECT_EQ(m.real("gpt2.attention.layer_norm_epsilon"), 0.5);
  expect_message(refusal(kGpt2, R"("add_cross_attention": true)"), "add_cross_attention = true is not supported");
  expect_message(refusal(kGpt2, R"("activation_function": "mish")"), "the activation mish is not supported");
}

TEST(Architecture, LlamaFromItsConfig) {
  Metadata m = keys_of(config_of(kLlama, R"("sliding_window": 9)"));
  EXPECT_EQ(m.integer("llama.attention.head_count_kv"), 3) << "no grouping unless said";
  EXPECT_EQ(m.integer("llama.attention.key_length"), 4) << "width over heads";
  EXPECT_EQ(m.real("llama.rope.freq_base"), 10000);
  EXPECT_FALSE(m.has("llama.attention.sliding_window")) << "llama has none, whatever its config says";
  EXPECT_FALSE(m.has("llama.expert_count"));

  std::string mistral(kLlama);
  mistral.replace(mistral.find("\"llama\""), 7, "\"mistral\"");
  m = keys_of(config_of(mistral, R"("sliding_window": 9, "head_dim": 8, "num_key_value_heads": 1)"));
  EXPECT_EQ(m.integer("llama.attention.sliding_window"), 9);
  EXPECT_EQ(m.integer("llama.attention.key_length"), 8);
  EXPECT_EQ(m.integer("llama.attention.head_count_kv"), 1);
  for (const char* off : {R"("sliding_window": null)", R"("sliding_window": 0)"}) {
    EXPECT_FALSE(keys_of(config_of(mistral, off)).has("llama.attention.sliding_window"));
  }

  std::string mixtral(kLlama);
  mixtral.replace(mixtral.find("\"llama\""), 7, "\"mixtral\"");
  m = keys_of(config_of(mixtral, R"("num_local_experts": 4, "num_experts_per_tok": 2)"));
  EXPECT_EQ(m.integer("llama.expert_count"), 4);
  EXPECT_EQ(m.integer("llama.expert_used_count"), 2);
  expect_message(refusal(mixtral, ""), "num_local_experts is missing");
  expect_message(refusal(kLlama, R"("partial_rotary_factor": 0.5)"), "partial_rotary_factor = 0.5 is not supported");
}

TEST(Architecture, FieldsThatNobodyReadsAreRefused) {
  expect_message(refusal(kLlama, R"("logit_scale": 2.0)"), "logit_scale = 2 is not understood for model_type llama");
  expect_message(refusal(kGpt2, R"("rope_scaling": {"type": "linear"})"), "rope_scaling.type = \"linear\" is not");
  EXPECT_NO_THROW(keys_of(config_of(kGpt2, R"("resid_pdrop": 0.1, "bos_token_id": 3, "_name_or_path": "x",
      "new_flag": false, "new_list": [], "id2label": {"0": "a"}, "new_null": null)")))
      << "off, or known to leave the maths alone";
}

TEST(Architecture, MissingFieldsAreNamed) {
  for (const std::string_view json : kMinimalConfigs) {
    SCOPED_TRACE(json);
    const Metadata whole = config_of(json);
    for (const auto& [key, value] : whole.entries()) {
      if (key == "model_type") continue;
      Metadata part = whole;
      part.erase(key);
      const std::string message = error_of([&] { keys_of(part); });
      expect_message(message, key);
      expect_message(message, "is missing");
      for (const int64_t wrong : {int64_t{0}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
        part.set(key, wrong);
        EXPECT_NE(error_of([&] { keys_of(part); }), "") << key << " = " << wrong;
      }
      part.set(key, std::string("12"));
      expect_message(error_of([&] { keys_of(part); }), fmt::format("metadata key {} is string", key));
    }
  }
}

TEST(Architecture, TensorNamesAreUniqueAndFitGguf) {
  for (const std::string_view json : kMinimalConfigs) {
    SCOPED_TRACE(json);
    const HfConfig config(config_of(json));
    const Architecture& architecture = find_hf_architecture(config.text("model_type"));
    std::set<std::string> gguf, hf;
    for (const TensorSpec& spec : architecture.tensors(architecture.from_hf(config))) {
      EXPECT_TRUE(gguf.insert(spec.gguf).second) << spec.gguf;
      EXPECT_LE(spec.gguf.size(), 63u);
      for (const std::string& name : spec.hf) EXPECT_TRUE(hf.insert(name).second) << name;
      EXPECT_GE(spec.shape.elements(), 1);
      if (spec.transform == Transform::rotary_pairs) {
        EXPECT_EQ(spec.shape[0] % (2 * spec.heads), 0) << spec.gguf;
      } else if (spec.transform == Transform::split_qkv) {
        ASSERT_GT(spec.kv_heads, 0) << spec.gguf;
        EXPECT_EQ(spec.shape[0] % (spec.heads + 2 * spec.kv_heads), 0) << spec.gguf;
      }
    }
    EXPECT_TRUE(gguf.contains("token_embd.weight") && gguf.contains("output_norm.weight"));
  }
}

TEST(Architecture, RopeFactorsAreDerivedFromLlama3Configs) {
  const HfConfig plain(config_of(kLlama));
  const Architecture& llama = find_architecture("llama");
  EXPECT_TRUE(llama.derived_from_hf(plain).empty());
  const auto derived = llama.derived_from_hf(
      HfConfig(config_of(kLlama, R"("rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
                           "high_freq_factor": 4, "original_max_position_embeddings": 8192})")));
  ASSERT_EQ(derived.size(), 1u);
  EXPECT_EQ(derived[0].gguf, "rope_freqs.weight");
  EXPECT_EQ(derived[0].values.size(), 2u) << "pairs of a head of 4";
}

TEST(Blocks, VocabularySize) {
  Metadata m;
  m.set("tokenizer.ggml.tokens", MetaArray(std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(vocabulary_size(m, "x"), 3);
  m.set("x.vocab_size", uint32_t{7});
  EXPECT_EQ(vocabulary_size(m, "x"), 7);
  EXPECT_THROW(vocabulary_size(Metadata(), "x"), Error);
}

TEST(Blocks, ActivationsByTheNamesOfHuggingFace) {
  EXPECT_EQ(activation_from_hf("gelu_new"), Activation::gelu_tanh);
  EXPECT_EQ(activation_from_hf("gelu"), Activation::gelu_erf);
  EXPECT_EQ(activation_from_hf("swish"), Activation::silu);
  EXPECT_EQ(gated(activation_from_hf("silu")), Activation::gated_silu);
  EXPECT_THROW(activation_from_hf("GELU"), Error);
}

}  // namespace
}  // namespace weft
