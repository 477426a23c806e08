// The table of contents of the model families: one line each.
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "models/architecture.h"

namespace weft {

extern const Architecture kBloom, kFalcon, kGemma, kGemma2, kGemma3, kGpt2, kGptJ, kGptNeo, kGptNeoX, kGptOss, kGranite,
    kLlama, kOlmo2, kOpt, kPhi2, kPhi3, kQwen2, kQwen2Moe, kQwen3, kQwen3Moe, kStableLm, kStarCoder, kStarCoder2;

namespace {
constexpr std::array kAll = {
    &kBloom,       //
    &kFalcon,      //
    &kGemma,       //
    &kGemma2,      //
    &kGemma3,      //
    &kGpt2,        //
    &kGptJ,        //
    &kGptNeo,      //
    &kGptNeoX,     //
    &kGptOss,      //
    &kGranite,     //
    &kLlama,       //
    &kOlmo2,       //
    &kOpt,         //
    &kPhi2,        //
    &kPhi3,        //
    &kQwen2,       //
    &kQwen2Moe,    //
    &kQwen3,       //
    &kQwen3Moe,    //
    &kStableLm,    //
    &kStarCoder,   //
    &kStarCoder2,  //
};

std::vector<std::string_view> names() {
  std::vector<std::string_view> out;
  for (const Architecture* a : kAll) out.push_back(a->name);
  return out;
}
}  // namespace

std::span<const Architecture* const> architectures() { return kAll; }

const Architecture& find_architecture(std::string_view name) {
  const auto it = std::ranges::find(kAll, name, &Architecture::name);
  require(it != kAll.end(), "unknown architecture {}; known are: {}", name, fmt::join(names(), ", "));
  return **it;
}

const Architecture& find_hf_architecture(std::string_view model_type) {
  for (const Architecture* a : kAll) {
    if (std::ranges::find(a->hf_model_types, model_type) != a->hf_model_types.end()) return *a;
  }
  fail("unknown model_type {}; known architectures are: {}", model_type, fmt::join(names(), ", "));
}

}  // namespace weft
