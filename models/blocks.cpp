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

}  // namespace weft
