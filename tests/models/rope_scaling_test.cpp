#include "models/rope_scaling.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

Metadata config(std::string_view prefix, const std::string& type) {
  Metadata m;
  m.set(fmt::format("{}.rope_type", prefix), type);
  m.set(fmt::format("{}.factor", prefix), 4.0);
  m.set("max_position_embeddings", int64_t{16384});
  return m;
}

/// What config.json becomes, read back.
RopeScaling read(const Metadata& from, int64_t rotary_dim, double theta = 10000) {
  KeyWriter keys("llama");
  rope_from_hf(HfConfig(from), keys);
  return rope_scaling(keys.metadata, "llama", rotary_dim, theta);
}

/// Frequencies of `factors` against those that transformers computes.
void expect_frequencies(const std::vector<float>& factors, double theta, const std::vector<double>& expected) {
  ASSERT_EQ(factors.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const double plain = std::pow(theta, -static_cast<double>(i) / static_cast<double>(expected.size()));
    EXPECT_NEAR(plain / static_cast<double>(factors[i]) / expected[i], 1, 1e-6) << "pair " << i;
  }
}

TEST(RopeScaling, NoneIsNone) {
  const Metadata m;
  EXPECT_TRUE(rope_scaling(m, "llama", 16, 10000).factors.empty());
  EXPECT_EQ(rope_scaling(m, "llama", 16, 10000).attn_scale, 1);
  EXPECT_TRUE(read(config("rope_parameters", "default"), 16).factors.empty());
  EXPECT_TRUE(llama3_factors(HfConfig(config("rope_parameters", "linear")), 16).empty());
}

TEST(RopeScaling, LinearDividesAll) {
  const RopeScaling scaling = read(config("rope_parameters", "linear"), 6);
  EXPECT_EQ(scaling.factors, (std::vector<float>{4, 4, 4}));
  EXPECT_EQ(scaling.attn_scale, 1);
  Metadata old;  // the key of old GGUF files
  old.set("llama.rope.scale_linear", 2.0f);
  EXPECT_EQ(rope_scaling(old, "llama", 4, 10000).factors, (std::vector<float>{2, 2}));
}

// Expected frequencies: _compute_yarn_parameters of transformers' modeling_rope_utils.py, worked out in double.
TEST(RopeScaling, Yarn) {
  for (const char* prefix : {"rope_parameters", "rope_scaling"}) {  // transformers 5 and 4
    Metadata m = config(prefix, "yarn");
    m.set(fmt::format("{}.original_max_position_embeddings", prefix), int64_t{4096});
    const RopeScaling scaling = read(m, 16);
    expect_frequencies(scaling.factors, 10000,
                       {1.0, 0.31622776601683794, 0.1, 0.02569350598886808, 0.00625, 0.0013834964763236657, 0.00025,
                        7.905694150420948e-05});
    EXPECT_NEAR(scaling.attn_scale, 1.138629436111989, 1e-6) << "0.1 ln(4) + 1";
  }
}

TEST(RopeScaling, YarnsOtherSettings) {
  Metadata m = config("rope_parameters", "yarn");
  m.set("rope_parameters.original_max_position_embeddings", int64_t{4096});
  m.set("rope_parameters.beta_fast", 16.0);
  m.set("rope_parameters.beta_slow", int64_t{2});
  m.set("rope_parameters.attention_factor", 0.75);
  const RopeScaling scaling = read(m, 16);
  expect_frequencies(scaling.factors, 10000,
                     {1.0, 0.31622776601683794, 0.1, 0.03162277660168379, 0.0075, 0.0015811388300841897, 0.00025,
                      7.905694150420948e-05});
  EXPECT_NEAR(scaling.attn_scale, 0.75, 1e-7) << "in GGUF a multiple of what yarn suggests";
  m.erase("rope_parameters.attention_factor");
  m.set("rope_parameters.mscale", 0.707);
  m.set("rope_parameters.mscale_all_dim", 1.0);
  EXPECT_NEAR(read(m, 16).attn_scale, 1.0980110 / 1.1386294, 1e-6);
}

// The ramp begins and ends between pairs.
TEST(RopeScaling, YarnThatDoesNotTruncate) {
  Metadata m = config("rope_parameters", "yarn");
  m.set("rope_parameters.original_max_position_embeddings", int64_t{4096});
  m.set("rope_parameters.truncate", false);
  KeyWriter keys("llama");
  rope_from_hf(HfConfig(m), keys);
  EXPECT_FALSE(keys.metadata.boolean("llama.rope.scaling.yarn_truncate"));
  // log(4096 / (32 * 2 pi)) and log(4096 / (2 pi)), times 16 / (2 log 10000): pairs 2.61806 to 5.62836
  const auto ramp = [](double pair) { return (pair - 2.6180602025795063) / (5.628360159219318 - 2.6180602025795063); };
  const auto divided = [&](double pair) { return 1 / (ramp(pair) / 4 + 1 - ramp(pair)); };
  const RopeScaling scaling = rope_scaling(keys.metadata, "llama", 16, 10000);
  ASSERT_EQ(scaling.factors.size(), 8u);
  EXPECT_EQ(scaling.factors[2], 1);
  for (const int pair : {3, 4, 5}) {
    EXPECT_NEAR(static_cast<double>(scaling.factors[static_cast<size_t>(pair)]) / divided(pair), 1, 1e-6) << pair;
  }
  EXPECT_EQ(scaling.factors[6], 4);

  KeyWriter same("gpt-oss");  // a family that does not truncate need not say so
  rope_from_hf(HfConfig(m), same, {.yarn_truncate = false});
  EXPECT_FALSE(same.metadata.has("gpt-oss.rope.scaling.yarn_truncate"));
  EXPECT_EQ(rope_scaling(same.metadata, "gpt-oss", 16, 10000, false).factors, scaling.factors);
}

TEST(RopeScaling, Longrope) {
  for (const char* type : {"longrope", "su", "yarn"}) {  // as it was called over time
    Metadata m = config("rope_scaling", type);
    m.erase("rope_scaling.factor");
    m.set("rope_scaling.long_factor", MetaArray(std::vector<double>{1.5, 3}));
    m.set("rope_scaling.short_factor", MetaArray(std::vector<int64_t>{1, 2}));
    m.set("original_max_position_embeddings", int64_t{4096});
    m.set("rope_scaling.original_max_position_embeddings", int64_t{7});
    KeyWriter keys("phi3");
    rope_from_hf(HfConfig(m), keys);
    EXPECT_EQ(keys.metadata.integer("phi3.rope.scaling.original_context_length"), 4096) << "outside goes first";
    EXPECT_FALSE(keys.metadata.has("phi3.rope.scaling.factor")) << "programs would divide by it";
    const RopeScaling scaling = rope_scaling(keys.metadata, "phi3", 4, 10000);
    EXPECT_TRUE(scaling.factors.empty()) << "they are tensors";
    EXPECT_NEAR(scaling.attn_scale, 1.0801234, 1e-6) << "sqrt(1 + ln(4) / ln(4096))";
    const auto tensors = rope_factor_tensors(HfConfig(m), 4);
    ASSERT_EQ(tensors.size(), 2u);
    EXPECT_EQ(tensors[0].gguf, "rope_factors_long.weight");
    EXPECT_EQ(tensors[0].values, (std::vector<float>{1.5, 3}));
    EXPECT_EQ(tensors[1].gguf, "rope_factors_short.weight");
    EXPECT_EQ(tensors[1].values, (std::vector<float>{1, 2}));
    expect_message(error_of([&] { rope_factor_tensors(HfConfig(m), 6); }),
                   "rope_scaling.long_factor has 2 factors, 3 pairs rotate");
    m.set("rope_scaling.attention_factor", 1.25);
    KeyWriter stated("phi3");
    rope_from_hf(HfConfig(m), stated);
    EXPECT_EQ(rope_scaling(stated.metadata, "phi3", 4, 10000).attn_scale, 1.25f);
  }
}

// So short an original context that the ramp begins below the first pair.
TEST(RopeScaling, YarnOfAShortContext) {
  Metadata m = config("rope_parameters", "yarn");
  m.set("rope_parameters.factor", 16.0);
  m.set("rope_parameters.original_max_position_embeddings", int64_t{8});
  const RopeScaling scaling = read(m, 8);
  expect_frequencies(scaling.factors, 10000, {1.0, 0.00625, 0.000625, 6.25e-05});
  EXPECT_NEAR(scaling.attn_scale, 1.2772588722239782, 1e-6);
}

// _compute_llama3_parameters: long waves divided by the factor, short ones kept, a smooth step between.
TEST(RopeScaling, Llama3) {
  Metadata m = config("rope_scaling", "llama3");
  m.set("rope_scaling.factor", 8.0);
  m.set("rope_scaling.low_freq_factor", 1.0);
  m.set("rope_scaling.high_freq_factor", 4.0);
  m.set("rope_scaling.original_max_position_embeddings", int64_t{8192});
  m.set("rope_theta", 500000.0);
  expect_frequencies(llama3_factors(HfConfig(m), 16), 500000,
                     {1.0, 0.19392274474868576, 0.03760603093086393, 0.0072926647372171085, 0.0005248461609929547,
                      3.428102195952591e-05, 6.647869871181236e-06, 1.2891731721515574e-06});
  KeyWriter keys("llama");
  rope_from_hf(HfConfig(m), keys);
  EXPECT_EQ(keys.metadata.real("llama.rope.freq_base"), 500000);
  EXPECT_FALSE(keys.metadata.has("llama.rope.scaling.type")) << "GGUF has a tensor for it";

  m.set("rope_theta", 10000.0);
  m.set("rope_scaling.original_max_position_embeddings", int64_t{512});
  expect_frequencies(llama3_factors(HfConfig(m), 16), 10000,
                     {1.0, 0.31622776601683794, 0.1, 0.018496675401442404, 0.00125, 0.00039528470752104737, 0.000125,
                      3.952847075210474e-05});
}

TEST(RopeScaling, ThetaIsFoundInBothSpellings) {
  const auto theta = [](const Metadata& config) {
    KeyWriter keys("a");
    rope_from_hf(HfConfig(config), keys);
    return keys.metadata.real("a.rope.freq_base");
  };
  Metadata m;
  m.set("rope_theta", 5000.0);
  EXPECT_EQ(theta(m), 5000);
  m.set("rope_parameters.rope_theta", int64_t{7000});
  EXPECT_EQ(theta(m), 7000);
  EXPECT_EQ(theta(Metadata()), 10000);
}

TEST(RopeScaling, WhatWeftDoesNotDoIsRefusedByName) {
  const auto refused = [](const Metadata& from, std::string_view message) {
    expect_message(error_of([&] { read(from, 16); }), message);
  };
  refused(config("rope_parameters", "dynamic"), "rope_type dynamic is not supported");
  Metadata m;
  m.set("rope_scaling.type", std::string("linear"));
  refused(m, "field rope_scaling.factor is missing");

  Metadata gguf;
  gguf.set("llama.rope.scaling.type", std::string("dynamic"));
  gguf.set("llama.rope.scaling.factor", 2.0f);
  expect_message(error_of([&] { rope_scaling(gguf, "llama", 16, 1e4); }), "llama.rope.scaling.type dynamic");
  for (const float factor : {0.0f, -1.0f, INFINITY, NAN}) {
    gguf.set("llama.rope.scaling.factor", factor);
    expect_message(error_of([&] { rope_scaling(gguf, "llama", 16, 1e4); }), "llama.rope.scaling.factor is");
  }
}

}  // namespace
}  // namespace weft
