#include "convert/type_mix.h"

#include <gtest/gtest.h>

#include <set>

#include "convert/convert_plan.h"
#include "ops/quant/find.h"
#include "tests/convert/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

std::map<std::string, std::string> types_of(const Checkpoint& source, const std::string& type) {
  std::map<std::string, std::string> out;
  for (const PlannedTensor& t : plan_conversion(source, {.type = type}).tensors) out[t.name] = t.asked.name();
  return out;
}

TEST(TypeMix, EveryTypeThatCanBeWrittenIsOne) {
  std::set<std::string_view> names;
  for (const TypeTraits* type : quant::all_types()) {
    if (type->encode == nullptr) {
      expect_message(error_of([&] { find_mix(type->name); }), "but cannot write it");
      continue;
    }
    EXPECT_EQ(find_mix(type->name).base->name, type->name);
  }
  EXPECT_EQ(find_mix("Q4_k_m").name, "q4_K_M") << "letters of any case";
  expect_message(error_of([] { find_mix("q4_K_XL"); }), "there is no type q4_K_XL; there are f32, f16, bf16, q8_0");
  expect_message(error_of([] { find_mix(""); }), "there is no type ;");
}

// The layers that get more bits, of 16: 2 at either end and every third between.
TEST(TypeMix, Q4KMGivesSomeLayersMoreBits) {
  const auto tiny = tiny_model({.n_layer = 16, .d_model = 256, .n_head = 4, .n_kv_head = 4, .d_ff = 256});
  auto got = types_of(*tiny, "q4_K_M");
  const std::set<int> more = {0, 1, 4, 7, 10, 13, 14, 15};
  for (int i = 0; i < 16; ++i) {
    const auto type = [&](const char* name) { return got[fmt::format("blk.{}.{}.weight", i, name)]; };
    EXPECT_EQ(type("attn_v"), more.contains(i) ? "q6_K" : "q4_K") << i;
    EXPECT_EQ(type("ffn_down"), more.contains(i) ? "q6_K" : "q4_K") << i;
    EXPECT_EQ(type("ffn_up"), "q4_K");
    EXPECT_EQ(type("attn_norm"), "f32");
  }
  EXPECT_EQ(got["output.weight"], "q6_K");
  EXPECT_EQ(got["token_embd.weight"], "q4_K");
  tiny->drop("output.weight");
  EXPECT_EQ(types_of(*tiny, "q4_K_M")["token_embd.weight"], "q6_K") << "it is the output matrix, too";
}

TEST(TypeMix, SmallerMixesProtectWhatMatters) {
  const auto tiny = tiny_model({.n_layer = 16, .d_model = 256, .n_head = 4, .n_kv_head = 1, .d_ff = 256});
  auto q3 = types_of(*tiny, "q3_K_M");
  EXPECT_EQ(q3["blk.1.attn_v.weight"], "q5_K");
  EXPECT_EQ(q3["blk.2.attn_v.weight"], "q4_K");
  EXPECT_EQ(q3["blk.0.ffn_down.weight"], "q5_K") << "the first sixteenth";
  EXPECT_EQ(q3["blk.1.ffn_down.weight"], "q4_K");
  EXPECT_EQ(q3["blk.5.attn_output.weight"], "q4_K");
  EXPECT_EQ(q3["blk.5.ffn_gate.weight"], "q3_K");
  auto q2 = types_of(*tiny, "q2_K");
  EXPECT_EQ(q2["blk.5.attn_v.weight"], "q4_K") << "4 heads share it";
  EXPECT_EQ(q2["blk.5.ffn_down.weight"], "q3_K");
  tiny->edit().set("llama.attention.head_count_kv", uint32_t{4});
  EXPECT_EQ(types_of(*tiny, "q2_K")["blk.5.attn_v.weight"], "q3_K");
  for (const auto& [name, type] : types_of(*tiny, "q4_K")) {
    EXPECT_EQ(type, name.find("norm") != std::string::npos ? "f32" : "q4_K")
        << name << ": a plain type is for all alike";
  }
}

TEST(TypeMix, AttentionOfManyExpertsIsSmallAndRoutersAreF32) {
  const auto tiny = tiny_model({.n_layer = 16, .d_model = 256, .n_head = 4, .d_ff = 256, .n_expert = 8});
  auto got = types_of(*tiny, "q4_K_M");
  EXPECT_EQ(got["blk.5.attn_k.weight"], "q8_0");
  EXPECT_EQ(got["blk.5.attn_output.weight"], "q5_K");
  EXPECT_EQ(got["blk.0.ffn_down_exps.weight"], "q6_K");
  EXPECT_EQ(got["blk.2.ffn_down_exps.weight"], "q4_K");
  EXPECT_EQ(got["blk.2.ffn_gate_inp.weight"], "f32");
  EXPECT_EQ(types_of(*tiny, "q6_K")["blk.5.attn_output.weight"], "q6_K") << "never less than the mix says";
}

TEST(TypeMix, FallsBackToAboutAsManyBits) {
  const auto fallback = [](const char* type, int64_t columns) {
    return std::string(fallback_for(quant::find(type), columns).name());
  };
  EXPECT_EQ(fallback("q2_K", 96), "iq4_nl");
  EXPECT_EQ(fallback("q3_K", 96), "iq4_nl");
  EXPECT_EQ(fallback("q4_K", 96), "q5_0");
  EXPECT_EQ(fallback("q5_K", 96), "q5_1");
  EXPECT_EQ(fallback("q6_K", 96), "q8_0");
  EXPECT_EQ(fallback("iq4_xs", 96), "iq4_nl");
  EXPECT_EQ(fallback("q6_K", 50), "f16");
  EXPECT_EQ(fallback("q8_0", 50), "f16");
}

TEST(TypeMix, MoreBitsAreNotSpentOnWhatIsAlreadyQuantized) {
  const auto tiny = tiny_model({.n_layer = 4, .d_model = 256, .n_head = 4, .d_ff = 256, .type = quant::find("q4_K")});
  for (const char* type : {"q4_K_M", "q4_K_S", "q4_K"}) {
    for (const auto& [name, got] : types_of(*tiny, type)) {
      EXPECT_EQ(got, name.find("norm") != std::string::npos ? "f32" : "q4_K") << name;
    }
  }
  EXPECT_EQ(types_of(*tiny, "q8_0")["output.weight"], "q8_0");
}

}  // namespace
}  // namespace weft
