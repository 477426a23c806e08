// What config.json of GPT's kin becomes, architecture by architecture: defaults, options, refusals.
#include <gtest/gtest.h>

#include "models/tensor_list.h"
#include "tests/models/hf_keys.h"

namespace weft {
namespace {

using namespace weft::testing;

const TensorSpec* find(const std::vector<TensorSpec>& specs, std::string_view name) {
  for (const TensorSpec& spec : specs) {
    if (spec.gguf == name) return &spec;
  }
  return nullptr;
}

std::vector<TensorSpec> tensors_of(std::string_view json, std::string_view more = "") {
  const Metadata keys = keys_of(json, more);
  const HfConfig config(config_of(json));
  return find_hf_architecture(config.text("model_type")).tensors(keys);
}

TEST(GptConfigs, StarCoder) {
  Metadata m = keys_of(kBigCode, R"("pad_key_length": true, "num_key_value_heads": 1, "inference_runner": 0)");
  EXPECT_EQ(m.integer("starcoder.attention.head_count_kv"), 1);
  EXPECT_EQ(m.integer("starcoder.feed_forward_length"), 48);
  EXPECT_FALSE(m.has("starcoder.hidden_activation") || m.has("starcoder.attention.scale"));
  EXPECT_EQ(find(tensors_of(kBigCode), "blk.1.attn_qkv.weight")->transform, Transform::none);
  EXPECT_EQ(find(tensors_of(kBigCode), "blk.1.attn_qkv.weight")->shape, (Shape{20, 12}));

  m = keys_of(kBigCode, R"("multi_query": false, "scale_attn_weights": false, "activation_function": "gelu")");
  EXPECT_EQ(m.integer("starcoder.attention.head_count_kv"), 3);
  EXPECT_EQ(m.real("starcoder.attention.scale"), 1);
  EXPECT_EQ(m.text("starcoder.hidden_activation"), "gelu_erf");
  const auto specs = tensors_of(kBigCode, R"("multi_query": false)");
  EXPECT_EQ(find(specs, "blk.0.attn_qkv.bias")->transform, Transform::split_qkv);
  EXPECT_EQ(find(specs, "blk.0.attn_qkv.weight")->shape, (Shape{36, 12}));
  expect_message(refusal(kBigCode, R"("add_cross_attention": true)"), "add_cross_attention = true is not supported");
}

TEST(GptConfigs, GptNeosLayersByTurns) {
  const auto pattern = [](std::string_view more) {
    const Metadata m = keys_of(kGptNeo, more);
    return std::get<std::vector<bool>>(std::get<MetaArray>(*m.find("gptneo.attention.sliding_window_pattern")));
  };
  using Flags = std::vector<bool>;
  EXPECT_EQ(pattern(""), (Flags{false, true, false}));
  EXPECT_EQ(pattern(R"("attention_types": [[["local", "global"], 1], [["local"], 1]])"), (Flags{true, false, true}));
  EXPECT_EQ(pattern(R"("attention_types": [[["global"], 3]], "attention_layers": ["local", "local", "global"])"),
            (Flags{true, true, false}))
      << "what is unfolded goes first";
  Metadata m = keys_of(kGptNeo);
  EXPECT_EQ(m.integer("gptneo.attention.sliding_window"), 256);
  EXPECT_EQ(m.real("gptneo.attention.scale"), 1) << "scores are not scaled";
  m = keys_of(kGptNeo, R"("attention_types": [[["global"], 3]], "window_size": 7)");
  EXPECT_FALSE(m.has("gptneo.attention.sliding_window") || m.has("gptneo.attention.sliding_window_pattern"));
  expect_message(refusal(kGptNeo, R"("attention_types": [[["global"], 2]])"),
                 "attention_types, is about 2 layers, num_layers is 3");
  expect_message(refusal(kGptNeo, R"("attention_types": [[["global"], 9223372036854775807]])"), "is about 4 layers");
  expect_message(refusal(kGptNeo, R"("attention_layers": ["global", "global", "flash"])"), "flash is not supported");
  expect_message(refusal(kGptNeo, R"("window_size": 0)"), "window_size is 0");
}

TEST(GptConfigs, Opt) {
  Metadata m = keys_of(kOpt, R"("word_embed_proj_dim": 12, "_remove_final_layer_norm": false, "layerdrop": 0.1)");
  EXPECT_FALSE(m.has("opt.hidden_activation") || m.has("opt.do_layer_norm_before"));
  auto specs = tensors_of(kOpt);
  EXPECT_EQ(find(specs, "position_embd.weight")->shape, (Shape{52, 12})) << "two rows that no token uses";
  EXPECT_TRUE(find(specs, "output_norm.weight")->required);
  EXPECT_EQ(find(specs, "token_embd_proj.weight"), nullptr);
  EXPECT_EQ(find(specs, "blk.0.ffn_norm.weight")->hf[0], "decoder.layers.0.final_layer_norm.weight");

  specs = tensors_of(kOpt, R"("do_layer_norm_before": false, "word_embed_proj_dim": 5)");
  EXPECT_EQ(find(specs, "output_norm.weight"), nullptr);
  EXPECT_EQ(find(specs, "blk.0.attn_norm.weight"), nullptr);
  EXPECT_EQ(find(specs, "blk.0.ffn_norm.weight")->hf[0], "decoder.layers.0.self_attn_layer_norm.weight");
  EXPECT_EQ(find(specs, "blk.0.layer_output_norm.bias")->hf[0], "decoder.layers.0.final_layer_norm.bias");
  EXPECT_EQ(find(specs, "token_embd.weight")->shape, (Shape{20, 5}));
  EXPECT_EQ(find(specs, "token_embd_proj.weight")->shape, (Shape{12, 5}));
  EXPECT_EQ(find(specs, "output_proj.weight")->shape, (Shape{5, 12}));
  EXPECT_EQ(find(specs, "output.weight")->shape, (Shape{20, 5}));

  EXPECT_EQ(find(tensors_of(kOpt, R"("_remove_final_layer_norm": true)"), "output_norm.weight"), nullptr);
  specs = tensors_of(kOpt, R"("layer_norm_elementwise_affine": false, "enable_bias": false)");
  for (const TensorSpec& spec : specs) EXPECT_EQ(spec.gguf.find("norm"), std::string::npos) << spec.gguf;
  expect_message(refusal(kOpt, R"("learned_embeddings": false)"), "learned_embeddings = false is not supported");
  expect_message(refusal(kOpt, R"("word_embed_proj_dim": 0)"), "word_embedding_length would be 0");
}

TEST(GptConfigs, Bloom) {
  Metadata m = keys_of(kBloom, R"("masked_softmax_fusion": true, "bias_dropout_fusion": true, "pretraining_tp": 4)");
  EXPECT_EQ(m.integer("bloom.context_length"), 2048);
  EXPECT_EQ(m.integer("bloom.feed_forward_length"), 48);
  EXPECT_FALSE(m.has("bloom.apply_residual_connection_post_layernorm"));
  m = keys_of(kBloom, R"("seq_length": 99, "n_embed": 24, "apply_residual_connection_post_layernorm": true)");
  EXPECT_EQ(m.integer("bloom.context_length"), 99);
  EXPECT_EQ(m.integer("bloom.embedding_length"), 24) << "the former name goes first";
  EXPECT_TRUE(m.boolean("bloom.apply_residual_connection_post_layernorm"));
}

TEST(GptConfigs, Falcon) {
  Metadata m = keys_of(kFalcon, R"("num_kv_heads": 3, "ff_factor": 4)");
  EXPECT_EQ(m.integer("falcon.attention.head_count_kv"), 1) << "num_kv_heads plays no part under multi_query";
  EXPECT_EQ(m.integer("falcon.context_length"), 2048);
  EXPECT_FALSE(m.has("falcon.hidden_activation")) << "erf";
  EXPECT_FALSE(m.has("falcon.use_parallel_residual") || m.has("falcon.attention.alibi"));
  EXPECT_EQ(keys_of(kFalcon, R"("multi_query": false)").integer("falcon.attention.head_count_kv"), 3);
  EXPECT_EQ(keys_of(kFalcon, R"("new_decoder_architecture": true)").integer("falcon.attention.head_count_kv"), 3);
  m = keys_of(kFalcon, R"("alibi": true, "parallel_attn": false, "bias": true, "activation": "gelu_new",
                          "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"})");
  EXPECT_FALSE(m.boolean("falcon.use_parallel_residual"));
  EXPECT_TRUE(m.boolean("falcon.attention.alibi"));
  EXPECT_EQ(m.text("falcon.hidden_activation"), "gelu_tanh");

  constexpr std::string_view kGrouped =
      R"("new_decoder_architecture": true, "num_attention_heads": 6, "num_kv_heads": 2)";
  std::string wide(kFalcon);
  wide.replace(wide.find(R"("num_attention_heads": 3,)"), 25, "");
  const auto specs = tensors_of(wide, kGrouped);
  const TensorSpec& qkv = *find(specs, "blk.0.attn_qkv.weight");
  EXPECT_EQ(qkv.transform, Transform::split_qkv);
  EXPECT_EQ(qkv.heads, 6);
  EXPECT_EQ(qkv.kv_heads, 2);
  EXPECT_EQ(qkv.shape, (Shape{20, 12}));
  EXPECT_EQ(find(specs, "blk.1.attn_norm.bias")->hf_otherwise, "h.1.ln_mlp.bias");
  EXPECT_EQ(find(specs, "blk.1.attn_norm_2.weight")->hf[0], "h.1.ln_attn.weight");

  expect_message(refusal(kFalcon, R"("multi_query": false, "num_kv_heads": 1)"), "num_kv_heads = 1 is not supported");
  expect_message(refusal(kFalcon, R"("new_decoder_architecture": true, "parallel_attn": false)"),
                 "parallel_attn = false");
  expect_message(refusal(kFalcon, R"("num_ln_in_parallel_attn": 2)"), "num_ln_in_parallel_attn = 2 is not supported");
  expect_message(refusal(kFalcon, R"("rope_scaling": {"type": "dynamic", "factor": 2})"), "rope_type dynamic");
}

TEST(GptConfigs, Phi) {
  Metadata m = keys_of(kPhi);
  EXPECT_EQ(m.integer("phi2.rope.dimension_count"), 2) << "half of four";
  EXPECT_EQ(m.integer("phi2.attention.head_count_kv"), 3);
  m = keys_of(kPhi,
              R"("partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 1.0, "rope_theta": 7})");
  EXPECT_EQ(m.integer("phi2.rope.dimension_count"), 4);
  EXPECT_EQ(m.real("phi2.rope.freq_base"), 7);
  auto specs = tensors_of(kPhi);
  EXPECT_EQ(find(specs, "blk.0.attn_q_norm.weight"), nullptr);
  EXPECT_EQ(find(specs, "blk.0.attn_v.bias")->unless, "blk.0.attn_qkv.weight");
  EXPECT_TRUE(find(specs, "blk.0.attn_v.bias")->required);
  EXPECT_FALSE(find(specs, "blk.0.attn_qkv.weight")->required);
  EXPECT_TRUE(find(specs, "blk.0.attn_qkv.weight")->hf.empty()) << "only GGUF has it";
  specs = tensors_of(kPhi, R"("qk_layernorm": true, "num_key_value_heads": 1)");
  EXPECT_TRUE(find(specs, "blk.0.attn_k_norm.bias")->required);
  EXPECT_EQ(find(specs, "blk.0.attn_k.weight")->shape, (Shape{4, 12}));
}

TEST(GptConfigs, StarCoder2) {
  Metadata m = keys_of(kStarCoder2, R"("sliding_window": null, "norm_type": "layer_norm", "mlp_type": "default")");
  EXPECT_EQ(m.integer("starcoder2.attention.head_count_kv"), 2) << "the default of its class";
  EXPECT_FALSE(m.has("starcoder2.attention.sliding_window"));
  m = keys_of(kStarCoder2, R"("sliding_window": 9, "layer_norm_epsilon": 1, "norm_epsilon": 0.5)");
  EXPECT_EQ(m.integer("starcoder2.attention.sliding_window"), 9);
  EXPECT_EQ(m.real("starcoder2.attention.layer_norm_epsilon"), 0.5) << "the field that its class reads";
  expect_message(refusal(kStarCoder2, R"("norm_type": "rms_norm")"), "norm_type = rms_norm is not supported");
  expect_message(refusal(kStarCoder2, R"("mlp_type": "gated")"), "mlp_type = gated is not supported");
  expect_message(refusal(kStarCoder2, R"("partial_rotary_factor": 0.5)"), "partial_rotary_factor = 0.5 is not");
}

TEST(GptConfigs, StableLm) {
  Metadata m = keys_of(kStableLm);
  EXPECT_EQ(m.integer("stablelm.attention.head_count_kv"), 32) << "the default of its class";
  EXPECT_EQ(m.integer("stablelm.rope.dimension_count"), 2) << "a quarter of eight";
  EXPECT_FALSE(m.boolean("stablelm.use_parallel_residual"));
  auto specs = tensors_of(kStableLm);
  EXPECT_TRUE(find(specs, "blk.0.ffn_norm.weight")->required);
  EXPECT_FALSE(find(specs, "blk.0.attn_q_norm.weight")->required) << "GGUF files say it by having it";
  EXPECT_TRUE(find(specs, "blk.0.attn_q_norm.weight")->hf.empty());

  specs = tensors_of(kStableLm, R"("use_parallel_residual": true, "qk_layernorm": true, "num_key_value_heads": 1)");
  EXPECT_FALSE(find(specs, "blk.0.ffn_norm.bias")->required);
  EXPECT_TRUE(find(specs, "blk.0.ffn_norm.bias")->hf.empty()) << "Hugging Face's parallel layers have none";
  EXPECT_TRUE(find(specs, "blk.0.attn_q_norm.weight")->required);
  EXPECT_EQ(find(specs, "blk.0.attn_q_norm.weight")->shape, (Shape{32, 8}));
  EXPECT_EQ(find(specs, "blk.0.attn_q_norm.weight")->hf[31], "layers.0.self_attn.q_layernorm.norms.31.weight");
  EXPECT_EQ(find(specs, "blk.0.attn_k_norm.weight")->shape, (Shape{8})) << "one head is not stacked";
}

// Where config.json may imply them, they must be looked for: else a stretched model would run unstretched.
TEST(GptConfigs, RotaryModelsListRopeFactors) {
  for (const std::string_view json : {kFalcon, kPhi, kStarCoder2, kStableLm}) {
    SCOPED_TRACE(json);
    const auto specs = tensors_of(json);
    for (const char* name : {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}) {
      ASSERT_NE(find(specs, name), nullptr) << name;
      EXPECT_FALSE(find(specs, name)->required);
    }
  }
}

// A file that says it has very many heads must not make very many names.
TEST(GptConfigs, ManyHeadNormsAreAnError) {
  Metadata m = keys_of(kStableLm, R"("qk_layernorm": true)");
  for (const char* key :
       {"stablelm.attention.head_count", "stablelm.attention.head_count_kv", "stablelm.embedding_length"}) {
    m.set(key, uint32_t{1} << 28);
  }
  m.set("stablelm.rope.dimension_count", uint32_t{1});
  expect_message(error_of([&] { find_architecture("stablelm").tensors(m); }), "head norms are too many");
}

}  // namespace
}  // namespace weft
