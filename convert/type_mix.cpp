#include "convert/type_mix.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <string>
#include <vector>

#include "ops/quant/all.h"

namespace weft {
namespace {

using enum Layers;
using namespace quant;

// The mixes as users of GGUF files know them. Source: the descriptions in llama.cpp's pull requests 1684 (K mixes),
// 2707 (more bits for attn_v) and 4773 (Mixtral's attention), and the list that its llama-quantize prints. Plain q3_K,
// q4_K and q5_K, and what is no mix, go to every matrix alike.
constexpr TypeMix kMixes[] = {
    {"f32", 0, &f32, &f32},
    {"f16", 1, &f16, &f16},
    {"bf16", 32, &bf16, &bf16},
    {"q8_0", 7, &q8_0, &q8_0},
    {"q4_0", 2, &q4_0, &q6_K},
    {"q4_1", 3, &q4_1, &q6_K},
    {"q5_0", 8, &q5_0, &q6_K},
    {"q5_1", 9, &q5_1, &q6_K},
    {"q2_K",
     10,
     &q2_K,
     &q6_K,
     {{{"attn_v", shared_kv, &q4_K}, {"attn_v", all, &q3_K}, {"attn_output", all, &q3_K}, {"ffn_down", all, &q3_K}}}},
    {"q2_K_S", 21, &q2_K, &q6_K, {{{"attn_v", shared_kv, &q4_K}, {"ffn_down", first_eighth, &q4_K}}}},
    {"q3_K", 11, &q3_K, &q3_K},
    {"q3_K_S", 11, &q3_K, &q6_K},
    {"q3_K_M",
     12,
     &q3_K,
     &q6_K,
     {{{"attn_v", first_2, &q5_K},
       {"attn_v", all, &q4_K},
       {"attn_qkv", all, &q4_K},
       {"attn_output", all, &q4_K},
       {"ffn_down", first_sixteenth, &q5_K},
       {"ffn_down", all, &q4_K}}}},
    {"q3_K_L",
     13,
     &q3_K,
     &q6_K,
     {{{"attn_v", all, &q5_K}, {"attn_qkv", all, &q4_K}, {"attn_output", all, &q5_K}, {"ffn_down", all, &q5_K}}}},
    {"q4_K", 14, &q4_K, &q4_K},
    {"q4_K_S", 14, &q4_K, &q6_K, {{{"attn_v", first_4, &q5_K}, {"ffn_down", first_eighth, &q5_K}}}},
    {"q4_K_M",
     15,
     &q4_K,
     &q6_K,
     {{{"attn_v", more_bits, &q6_K}, {"attn_qkv", all, &q5_K}, {"ffn_down", more_bits, &q6_K}}}},
    {"q5_K", 16, &q5_K, &q5_K},
    {"q5_K_S", 16, &q5_K, &q6_K},
    {"q5_K_M",
     17,
     &q5_K,
     &q6_K,
     {{{"attn_v", more_bits, &q6_K}, {"attn_qkv", all, &q6_K}, {"ffn_down", more_bits, &q6_K}}}},
    {"q6_K", 18, &q6_K, &q6_K},
    {"iq4_nl", 25, &iq4_nl, &q6_K, {{{"attn_v", shared_kv, &q5_K}, {"ffn_down", first_eighth, &q5_K}}}},
    {"iq4_xs", 30, &iq4_xs, &q6_K, {{{"attn_v", shared_kv, &q5_K}, {"ffn_down", first_eighth, &q5_K}}}},
    {"mxfp4", 38, &mxfp4, &mxfp4},
    {"tq1_0", 36, &tq1_0, &q6_K, {{{"token_embd", all, &q4_K}}}},
    {"tq2_0", 37, &tq2_0, &q6_K, {{{"token_embd", all, &q4_K}}}},
};

// Of 8 experts or more, attention is a small part: a mix gives it at least these.
constexpr MixRule kManyExperts[] = {{"attn_k", all, &q8_0}, {"attn_v", all, &q8_0}, {"attn_output", all, &q5_K}};

struct Fallback {
  const TypeTraits *from, *to;
};
constexpr Fallback kFallbacks[] = {
    {&q2_K, &iq4_nl}, {&q3_K, &iq4_nl}, {&iq4_xs, &iq4_nl}, {&tq1_0, &q4_0},
    {&tq2_0, &q4_0},  {&q4_K, &q5_0},   {&q5_K, &q5_1},     {&q6_K, &q8_0},
};

bool same_name(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  return std::ranges::equal(a, b, {}, lower, lower);
}

double bits(const TypeTraits& type) { return 8.0 * type.block_bytes / type.block_elems; }

/// "blk.12.ffn_down_exps.weight" is ffn_down of layer 12; "output.weight" is output of layer -1.
struct TensorRole {
  std::string_view name;
  int64_t layer = -1;
};

TensorRole role_of(std::string_view tensor) {
  TensorRole role{tensor};
  if (constexpr std::string_view kBlock = "blk."; tensor.starts_with(kBlock)) {
    const char* end = tensor.data() + tensor.size();
    const auto [after, error] = std::from_chars(tensor.data() + kBlock.size(), end, role.layer);
    if (error == std::errc() && after != end && *after == '.') role.name = std::string_view(after + 1, end);
    else role.layer = -1;
  }
  for (const std::string_view suffix : {".weight", "_exps", "_shexp"}) {
    if (role.name.ends_with(suffix)) role.name.remove_suffix(suffix.size());
  }
  return role;
}

bool covers(Layers layers, int64_t i, const MixModel& model) {
  const int64_t n = model.n_layer;
  switch (layers) {
    case all:
      return true;
    case first_2:
      return i < 2;
    case first_4:
      return i < 4;
    case first_sixteenth:
      return i < n / 16;
    case first_eighth:
      return i < n / 8;
    case more_bits:
      return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    case shared_kv:
      return model.heads_per_kv >= 4;
  }
  return false;
}

}  // namespace

const TypeMix& find_mix(std::string_view name) {
  for (const TypeMix& mix : kMixes) {
    if (same_name(mix.name, name)) return mix;
  }
  for (const TypeTraits* type : kAllTypes) {
    require(!same_name(type->name, name), "weft reads type {} but cannot write it", name);
  }
  std::vector<std::string_view> names;
  for (const TypeMix& mix : kMixes) names.push_back(mix.name);
  fail("there is no type {}; there are {}", name, fmt::join(names, ", "));
}

MixModel::MixModel(const Checkpoint& source) : tied_output(source.type("output.weight") == nullptr) {
  for (const std::string& name : source.tensor_names()) n_layer = std::max(n_layer, role_of(name).layer + 1);
  const Metadata& metadata = source.metadata();
  const std::string arch = metadata.text("general.architecture", "");
  const auto number = [&](std::string_view key, int64_t otherwise) {  // of the first layer, where layers differ
    const std::string full = fmt::format("{}.{}", arch, key);
    const MetaValue* value = metadata.find(full);
    if (value == nullptr) return otherwise;
    if (!std::holds_alternative<MetaArray>(*value)) return metadata.integer(full);
    const auto all_layers = metadata.integers(full);
    return all_layers.empty() ? otherwise : all_layers.front();
  };
  n_expert = number("expert_count", 0);
  const int64_t heads = number("attention.head_count", 1), kv = number("attention.head_count_kv", heads);
  heads_per_kv = kv > 0 ? heads / kv : 1;
}

DType type_in(const TypeMix& mix, std::string_view tensor, const MixModel& model) {
  const TensorRole role = role_of(tensor);
  if (role.name == "output" || (role.name == "token_embd" && model.tied_output)) return *mix.output;
  const auto rule = std::ranges::find_if(mix.rules, [&](const MixRule& r) {
    return r.type != nullptr && r.tensor == role.name && covers(r.layers, role.layer, model);
  });
  const TypeTraits* type = rule == mix.rules.end() ? mix.base : rule->type;
  if (mix.base == mix.output || model.n_expert < 8) return *type;
  for (const MixRule& least : kManyExperts) {
    if (least.tensor == role.name && bits(*least.type) > bits(*type)) type = least.type;
  }
  return *type;
}

DType fallback_for(DType type, int64_t columns) {
  for (const Fallback& fallback : kFallbacks) {
    if (type == DType(*fallback.from) && columns % fallback.to->block_elems == 0) return *fallback.to;
  }
  return f16;
}

bool stays_f32(std::string_view tensor, const TensorType& type) {
  if (type.shape.rank() < 2 || !tensor.ends_with(".weight")) return true;
  const std::string_view name = role_of(tensor).name;
  return name == "position_embd" || name.starts_with("ffn_gate_inp") || name.ends_with("_norm") ||
         name == "attn_sinks" || name.starts_with("rope_f");
}

}  // namespace weft
