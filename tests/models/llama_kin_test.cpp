// config.json of the families built like Llama: what becomes a key, what is refused.
#include <gtest/gtest.h>

#include <cstring>

#include <cmath>
#include <set>

#include "models/decoder_keys.h"
#include "tests/models/hf_keys.h"
#include "tests/models/rig.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

/// Nothing that has a default.
std::string base(std::string_view type, std::string_view more = "") {
  return fmt::format(R"({{"model_type": "{}", "hidden_size": 12, "max_position_embeddings": 50, "num_hidden_layers": 4,
      "num_attention_heads": 3, "intermediate_size": 30, "vocab_size": 20{}{}}})",
                     type, more.empty() ? "" : ", ", more);
}

std::vector<bool> pattern(const Metadata& m, std::string_view arch) {
  const MetaValue* value = m.find(fmt::format("{}.attention.sliding_window_pattern", arch));
  return value == nullptr ? std::vector<bool>() : std::get<std::vector<bool>>(std::get<MetaArray>(*value));
}

constexpr std::string_view kExperts =
    R"("num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 6, "shared_expert_intermediate_size": 7)";
const std::string kSomeOf[] = {base("qwen2"),
                               base("qwen3"),
                               base("qwen2_moe", kExperts),
                               base("qwen3_moe", R"("num_local_experts": 5, "num_experts_per_tok": 2,
                                                    "moe_intermediate_size": 6)"),
                               base("phi3"),
                               base("olmo2"),
                               base("granite"),
                               base("gemma"),
                               base("gemma2"),
                               base("gemma3_text"),
                               base("gpt_oss", R"("num_local_experts": 5, "num_experts_per_tok": 2)")};

TEST(LlamaKin, MissingFieldsAreNamed) {
  for (const std::string& json : kSomeOf) {
    const Metadata whole = config_of(json);
    EXPECT_NO_THROW(keys_of(whole)) << json;
    for (const auto& [key, value] : whole.entries()) {
      if (key == "model_type") continue;
      Metadata part = whole;
      part.erase(key);
      expect_message(error_of([&] { keys_of(part); }), key);
      for (const int64_t wrong : {int64_t{0}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
        part.set(key, wrong);
        EXPECT_NE(error_of([&] { keys_of(part); }), "") << json << key << " = " << wrong;
      }
    }
  }
}

TEST(LlamaKin, TensorNamesAreUniqueAndFitGguf) {
  for (const std::string& json : kSomeOf) {
    const HfConfig config(config_of(json));
    const Architecture& architecture = find_hf_architecture(config.text("model_type"));
    std::set<std::string> names;
    for (const TensorSpec& spec : architecture.tensors(architecture.from_hf(config))) {
      EXPECT_TRUE(names.insert(spec.gguf).second) << spec.gguf;
      EXPECT_LE(spec.gguf.size(), 63u);
      EXPECT_GE(spec.shape.elements(), 1);
    }
  }
}

TEST(LlamaKin, AFieldThatNobodyReadsIsRefused) {
  for (const std::string& json : kSomeOf) {
    expect_message(refusal(json, R"("logit_bias": 2.0)"), "logit_bias = 2 is not understood");
    expect_message(refusal(json, R"("rope_parameters": {"rope_type": "dynamic", "factor": 2.0})"),
                   "rope_type dynamic is not supported");
  }
  for (const size_t i : {0, 1, 5, 6, 7, 8, 9}) {
    expect_message(refusal(kSomeOf[i], R"("partial_rotary_factor": 0.5)"), "partial_rotary_factor = 0.5");
  }
}

TEST(LlamaKin, UpperLayersSlide) {
  for (const std::string type : {"qwen2", "qwen3"}) {
    const auto keys = [&](std::string_view more) { return keys_of(config_of(base(type), more)); };
    Metadata m = keys(R"("sliding_window": 9, "max_window_layers": 1)");
    EXPECT_FALSE(m.has(type + ".attention.sliding_window")) << "use_sliding_window gates it";
    m = keys(R"("use_sliding_window": true, "sliding_window": 9, "max_window_layers": 1)");
    EXPECT_EQ(m.integer(type + ".attention.sliding_window"), 9);
    EXPECT_EQ(pattern(m, type), (std::vector<bool>{false, true, true, true}));
    m = keys(R"("use_sliding_window": true, "sliding_window": 9, "max_window_layers": 0)");
    EXPECT_TRUE(pattern(m, type).empty()) << "all layers, as the key alone says";
    m = keys(R"("use_sliding_window": true, "sliding_window": 9, "layer_types":
                ["sliding_attention", "full_attention", "full_attention", "sliding_attention"])");
    EXPECT_EQ(pattern(m, type), (std::vector<bool>{true, false, false, true})) << "layer_types goes first";
    expect_message(refusal(base(type), R"("layer_types": ["full_attention"])"), "layer_types has 1 items for 4 layers");
    expect_message(refusal(base(type), R"("layer_types": ["chunked_attention", "a", "a", "a"])"),
                   "layer_types: chunked_attention is not supported");
    expect_message(refusal(base(type), R"("layer_types": ["sliding_attention", "full_attention", "full_attention",
                                                          "full_attention"])"),
                   "there is no sliding_window");
  }
}

TEST(LlamaKin, WindowsByLayer) {
  Metadata m = keys_of(config_of(base("gemma2"), R"("sliding_window": 9)"));
  const auto windows = [&](int64_t period) {
    return layer_windows(m, DecoderKeys(m, "gemma2", {.norm = NormKind::rms}), period);
  };
  EXPECT_EQ(windows(0), (std::vector<int64_t>{9, 9, 9, 9}));
  EXPECT_EQ(windows(1), (std::vector<int64_t>{0, 0, 0, 0}));
  EXPECT_EQ(windows(3), (std::vector<int64_t>{9, 9, 0, 9}));
  m.set("gemma2.attention.sliding_window_pattern", uint32_t{2});
  EXPECT_EQ(windows(3), (std::vector<int64_t>{9, 0, 9, 0})) << "the key, not the default";
  m.set("gemma2.attention.sliding_window_pattern", MetaArray(std::vector<bool>{false, true, true, false}));
  EXPECT_EQ(windows(3), (std::vector<int64_t>{0, 9, 9, 0}));
  m.set("gemma2.attention.sliding_window_pattern", MetaArray(std::vector<bool>{true}));
  expect_message(error_of([&] { windows(3); }), "is not a flag for each of 4 layers");
}

TEST(LlamaKin, ExpertsAndDenseLayers) {
  const auto keys = [](const std::string& json, std::string_view more) { return keys_of(config_of(json, more)); };
  Metadata m = keys(kSomeOf[2], R"("mlp_only_layers": [3], "decoder_sparse_step": 2)");
  EXPECT_EQ(m.integers("qwen2moe.dense_layers"), (std::vector<int64_t>{0, 2, 3}));
  EXPECT_EQ(m.integer("qwen2moe.expert_shared_feed_forward_length"), 7);
  EXPECT_FALSE(m.has("qwen2moe.expert_weights_norm")) << "the default of both";
  EXPECT_TRUE(keys(kSomeOf[2], R"("norm_topk_prob": true)").boolean("qwen2moe.expert_weights_norm"));
  EXPECT_FALSE(keys(kSomeOf[3], "").boolean("qwen3moe.expert_weights_norm")) << "off where config.json says nothing";
  m = keys(kSomeOf[3], R"("norm_topk_prob": true, "use_sliding_window": true, "sliding_window": 8)");
  EXPECT_FALSE(m.has("qwen3moe.expert_weights_norm"));
  EXPECT_FALSE(m.has("qwen3moe.dense_layers"));
  EXPECT_EQ(m.integer("qwen3moe.attention.sliding_window"), 8);
  expect_message(refusal(kSomeOf[3], R"("decoder_sparse_step": 0)"), "decoder_sparse_step is 0");

  m.set("qwen3moe.dense_layers", MetaArray(std::vector<int32_t>{4}));
  expect_message(error_of([&] { ExpertKeys(m, DecoderKeys(m, "qwen3moe", {})); }), "there is no layer 4");
}

TEST(LlamaKin, GemmaFamily) {
  for (const char* type : {"gemma", "gemma2", "gemma3_text"}) {
    expect_message(refusal(base(type), R"("use_bidirectional_attention": true)"), "use_bidirectional_attention");
    Metadata m = keys_of(config_of(base(type)));
    EXPECT_EQ(m.integer(m.entries()[0].first.substr(0, m.entries()[0].first.find('.')) + ".attention.key_length"), 256);
  }
  for (const char* tanh : {R"("hidden_act": "gelu", "hidden_activation": null)", R"("hidden_activation": "gelu")",
                           R"("hidden_act": "gelu_pytorch_tanh", "hidden_activation": "relu")"}) {
    EXPECT_FALSE(keys_of(config_of(base("gemma"), tanh)).has("gemma.hidden_activation")) << tanh;
  }
  EXPECT_EQ(keys_of(config_of(base("gemma"), R"("hidden_act": "relu")")).text("gemma.hidden_activation"), "relu");
  Metadata m = keys_of(config_of(base("gemma2"), R"("head_dim": 8, "query_pre_attn_scalar": 8,
      "attn_logit_softcapping": null, "final_logit_softcapping": 7.5, "sliding_window": 9)"));
  EXPECT_EQ(m.real("gemma2.attn_logit_softcapping"), 0) << "null is off, and said";
  EXPECT_EQ(m.real("gemma2.final_logit_softcapping"), 7.5);
  EXPECT_FALSE(m.has("gemma2.attention.scale")) << "as the head dimension says";
  EXPECT_TRUE(pattern(m, "gemma2").empty()) << "every other layer, as everybody knows";
  m = keys_of(config_of(base("gemma2"), R"("head_dim": 8, "query_pre_attn_scalar": 16)"));
  EXPECT_EQ(m.real("gemma2.attention.scale"), 0.25);
  EXPECT_EQ(pattern(m, "gemma2"), std::vector<bool>(4, false)) << "no window, or programs would take 4096";
}

TEST(LlamaKin, Gemma3HasTwoRotaryBases) {
  constexpr std::string_view kNew = R"("sliding_window": 9, "rope_parameters": {
      "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0},
      "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}})";
  constexpr std::string_view kOld = R"("sliding_window": 9, "rope_theta": 500.0, "rope_local_base_freq": 300.0,
      "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window_pattern": 3)";
  for (const std::string_view spelling : {kNew, kOld}) {
    const Metadata m = keys_of(config_of(base("gemma3_text"), spelling));
    EXPECT_EQ(m.real("gemma3.rope.freq_base"), 500);
    EXPECT_EQ(m.real("gemma3.rope.freq_base_swa"), 300);
    EXPECT_EQ(m.real("gemma3.rope.scaling.factor"), 8);
    EXPECT_EQ(pattern(m, "gemma3").empty(), spelling == kNew) << "a pattern of 6 is left out";
  }
  const Metadata m = keys_of(config_of(base("gemma3_text"), R"("sliding_window": 9)"));
  EXPECT_EQ(m.real("gemma3.rope.freq_base"), 1e6);
  EXPECT_FALSE(m.has("gemma3.rope.freq_base_swa")) << "the usual 10000";
  expect_message(refusal(base("gemma3_text"), R"("sliding_window": 9, "rope_parameters": {
      "sliding_attention": {"rope_type": "linear", "factor": 2.0}})"),
                 "rope_parameters.sliding_attention.rope_type linear is not supported");
}

TEST(LlamaKin, GptOssAsReleased) {
  const Metadata m =
      keys_of(config_of(kSomeOf[10], R"("swiglu_limit": 7.0, "swiglu_alpha": 1.702, "experts_per_token": 2,
      "initial_context_length": 4096, "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["a"]},
      "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
      "truncate": false, "original_max_position_embeddings": 4096})"));
  EXPECT_EQ(m.real("gpt-oss.rope.scaling.factor"), 32);
  EXPECT_FALSE(m.has("gpt-oss.rope.scaling.yarn_truncate"));
  EXPECT_FALSE(m.has("gpt-oss.attention.sliding_window_pattern"));
  const Metadata bare = keys_of(config_of(kSomeOf[10]));
  EXPECT_EQ(bare.real("gpt-oss.rope.scaling.factor"), 32) << "the class's default";
  EXPECT_EQ(bare.real("gpt-oss.rope.freq_base"), 150000);
  expect_message(refusal(kSomeOf[10], R"("swiglu_limit": 5.0)"), "swiglu_limit = 5 is not supported");
  expect_message(refusal(kSomeOf[10], R"("swiglu_alpha": 1.5)"), "swiglu_alpha = 1.5 is not supported");
  expect_message(refusal(kSomeOf[10], R"("quantization_config": {"quant_method": "awq"})"), "quant_method awq");
}

TEST(LlamaKin, Phi3SaysThatItHasNoWindow) {
  Metadata m = keys_of(config_of(base("phi3"), R"("original_max_position_embeddings": 50,
      "rope_parameters": {"partial_rotary_factor": 0.5})"));
  EXPECT_EQ(m.integer("phi3.attention.sliding_window"), 0);
  EXPECT_EQ(m.integer("phi3.rope.dimension_count"), 2);
  expect_message(refusal(base("phi3"), R"("partial_rotary_factor": 1.5)"), "partial_rotary_factor is 1.5");
  expect_message(refusal(base("phi3"), R"("rope_scaling": {"type": "longrope", "long_factor": [1.0, 2.0]})"),
                 "rope_scaling.short_factor has 0 factors, 2 pairs rotate");
}

// -- run
// ------------------------------------------------------------------------------------------------------------

std::vector<float> logits(std::shared_ptr<TinyModel> model, SessionOptions options = Rig::exact("ref")) {
  return Rig(std::move(model), std::move(options)).logits(random_ids(20, 61, 3));
}

TEST(LlamaKin, GraniteWithoutMultipliersIsLlama) {
  const auto plain = logits(tiny_model({.architecture = "llama"}));
  EXPECT_EQ(difference(logits(tiny_model({.architecture = "granite"})), plain), 0);
  const auto scaled = tiny_model({.architecture = "granite"});
  scaled->edit().set("granite.logit_scale", 4.0f);
  auto quarter = plain;
  for (float& v : quarter) v /= 4;
  EXPECT_EQ(difference(logits(scaled), quarter), 0);
}

TEST(LlamaKin, DenseLayersOfAMixtureAreOrdinary) {
  TinyOptions options{.architecture = "qwen3moe", .n_expert = 4};
  const auto dense = std::make_shared<TinyModel>(options, [](Metadata& m) {
    m.set("qwen3moe.dense_layers", MetaArray(std::vector<int32_t>{0, 1}));
  });
  EXPECT_EQ(difference(logits(dense), logits(tiny_model({.architecture = "qwen3"}))), 0);
}

TEST(LlamaKin, AVectorMayHaveALeadingOne) {
  const TinyOptions options{.architecture = "qwen2moe", .n_expert = 4};
  const auto as_row = tiny_model(options), as_vector = tiny_model(options);
  for (const char* name : {"blk.0.ffn_gate_inp_shexp.weight", "blk.1.ffn_gate_inp_shexp.weight"}) {
    as_row->set(name, {quant::f32, {1, 36}}, 5);
    as_vector->set(name, {quant::f32, {1, 1, 36}}, 5);
  }
  EXPECT_EQ(difference(logits(as_vector), logits(as_row)), 0);
}

// Newer GGUF files hold gate and up of an expert in one tensor, gate first.
TEST(LlamaKin, ExpertsMayHaveGateAndUpInOneTensor) {
  const TinyOptions options{.architecture = "qwen3moe", .n_expert = 4};
  const auto apart = tiny_model(options), together = tiny_model(options);
  for (int i = 0; i < 2; ++i) {
    const auto name = [&](const char* part) { return fmt::format("blk.{}.ffn_{}_exps.weight", i, part); };
    const Tensor gate = apart->at(name("gate")), up = apart->at(name("up"));
    together->set(name("gate_up"), {quant::f32, {4, 2 * gate.dim(1), gate.dim(2)}}, 1);
    const size_t bytes = gate.type.bytes() / 4;
    std::byte* to = together->at(name("gate_up")).data;
    for (size_t e = 0; e < 4; ++e) {
      std::memcpy(to + 2 * e * bytes, gate.data + e * bytes, bytes);
      std::memcpy(to + (2 * e + 1) * bytes, up.data + e * bytes, bytes);
    }
    together->drop(name("gate"));
    together->drop(name("up"));
  }
  EXPECT_EQ(difference(logits(together), logits(apart)), 0);
  together->set("blk.1.ffn_gate_up_exps.weight", {quant::f32, {4, 3, 36}}, 1);
  EXPECT_THROW(Model{together}, Error);
}

std::shared_ptr<TinyModel> longrope_model(int longer, int shorter) {
  const auto model = tiny_model({.architecture = "phi3"});
  model->edit().set("phi3.rope.scaling.original_context_length", uint32_t{30});
  model->set("rope_factors_long.weight", {quant::f32, {6}}, static_cast<uint64_t>(longer));
  model->set("rope_factors_short.weight", {quant::f32, {6}}, static_cast<uint64_t>(shorter));
  return model;
}

// As transformers has it: short factors up to the original context, long ones for every token of what is longer.
TEST(LlamaKin, TheLengthChoosesBetweenShortAndLongFactors) {
  const auto ids = random_ids(40, 61, 3);
  const std::span all(ids);
  Rig rig(longrope_model(1, 2)), swapped(longrope_model(2, 1)), always(longrope_model(1, 1)),
      never(longrope_model(2, 2));
  EXPECT_EQ(rig.logits(all.first(30)), never.logits(all.first(30)));
  EXPECT_EQ(rig.logits(all.first(31)), always.logits(all.first(31)));
  EXPECT_EQ(swapped.logits(all.first(31)), never.logits(all.first(31)));
  EXPECT_NE(always.logits(all.first(31)), never.logits(all.first(31)));
}

// Keys are cached after rotation: where a sequence passes the original context they are made anew.
TEST(LlamaKin, CrossingTheOriginalContextRemakesTheCache) {
  const auto ids = random_ids(40, 61, 3);
  const std::span all(ids);
  Rig rig(longrope_model(1, 2), Rig::exact("ref", 2)), always(longrope_model(1, 1)), never(longrope_model(2, 2));
  const int crossing = rig->open_sequence(), other = rig->open_sequence();
  EXPECT_EQ(difference(rig.logits(crossing, all.first(28), 5), never.logits(all.first(28), 5)), 0);
  const auto expected = always.logits(all);
  const auto rows = [&](size_t first, size_t n) { return std::span(expected).subspan(first * 61, n * 61); };
  EXPECT_LE(difference(rig.logits(crossing, all.subspan(28, 6), 6), rows(28, 6)), 1e-5);
  EXPECT_EQ(rig->length(crossing), 34);
  const Feed feeds[] = {{crossing, all.subspan(34, 1), true}, {other, all.first(3), true}};  // long and short at once
  const auto both = rig->step(feeds);
  EXPECT_LE(difference(both.first(61), rows(34, 1)), 1e-5);
  EXPECT_LE(difference(both.subspan(61), never.logits(all.first(3))), 1e-5);
  EXPECT_LE(difference(rig.logits(crossing, all.subspan(35), 1), rows(35, 5)), 1e-5);
  rig->truncate(crossing, 10);  // and back
  EXPECT_LE(difference(rig.logits(crossing, all.subspan(10, 5), 5),
                       std::span<const float>(never.logits(all.first(15))).subspan(10 * 61)),
            1e-5);
  rig->close_sequence(crossing);
  const int again = rig->open_sequence();
  EXPECT_LE(difference(rig.logits(again, all, 40), expected), 1e-5);
  rig->close_sequence(again);
  EXPECT_LE(difference(rig.logits(rig->open_sequence(40), all, 7), expected), 1e-5) << "long from the first chunk on";
}

}  // namespace
}  // namespace weft
