#include "models/blocks.h"

#include <array>
#include <utility>

#include "graph/error.h"

namespace weft {

Activation activation_from_hf(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Activation>, 8> kNames = {{
      {"gelu_new", Activation::gelu_tanh},
      {"gelu_fast", Activation::gelu_tanh},
      {"gelu_pytorch_tanh", Activation::gelu_tanh},
      {"gelu", Activation::gelu_erf},
      {"gelu_python", Activation::gelu_erf},
      {"relu", Activation::relu},
      {"silu", Activation::silu},
      {"swish", Activation::silu},
  }};
  for (const auto& [known, activation] : kNames) {
    if (known == name) return activation;
  }
  fail("config.json: the activation {} is not supported", name);
}

Activation gated(Activation activation) {
  switch (activation) {
    case Activation::gelu_tanh:
      return Activation::gated_gelu_tanh;
    case Activation::gelu_erf:
      return Activation::gated_gelu_erf;
    case Activation::relu:
      return Activation::gated_relu;
    case Activation::silu:
      return Activation::gated_silu;
    default:
      return activation;
  }
}

int64_t vocabulary_size(const Metadata& metadata, std::string_view arch) {
  const std::string key = fmt::format("{}.vocab_size", arch);
  return metadata.has(key) ? metadata.integer(key)
                           : static_cast<int64_t>(metadata.texts("tokenizer.ggml.tokens").size());
}

}  // namespace weft
