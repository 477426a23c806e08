// config.json to metadata keys, as a folder's loading does it.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "convert/json.h"
#include "models/architecture.h"
#include "tests/convert/temp_folder.h"

namespace weft::testing {

// config.json with nothing that has a default.
inline constexpr std::string_view kGpt2 =
    R"({"model_type": "gpt2", "n_embd": 12, "n_positions": 50, "n_layer": 2, "n_head": 3, "vocab_size": 20})";
inline constexpr std::string_view kLlama =
    R"({"model_type": "llama", "hidden_size": 12, "max_position_embeddings": 50, "num_hidden_layers": 2,
        "num_attention_heads": 3, "intermediate_size": 30, "vocab_size": 20})";
inline constexpr std::string_view kBigCode =
    R"({"model_type": "gpt_bigcode", "n_embd": 12, "n_positions": 50, "n_layer": 2, "n_head": 3, "vocab_size": 20})";
inline constexpr std::string_view kGptNeo =
    R"({"model_type": "gpt_neo", "hidden_size": 12, "max_position_embeddings": 50, "num_layers": 3, "num_heads": 3,
        "vocab_size": 20})";
inline constexpr std::string_view kOpt =
    R"({"model_type": "opt", "hidden_size": 12, "max_position_embeddings": 50, "num_hidden_layers": 2,
        "num_attention_heads": 3, "ffn_dim": 30, "vocab_size": 20})";
inline constexpr std::string_view kBloom =
    R"({"model_type": "bloom", "hidden_size": 12, "n_layer": 2, "n_head": 3, "vocab_size": 20})";
inline constexpr std::string_view kFalcon =
    R"({"model_type": "falcon", "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
        "vocab_size": 20})";
inline constexpr std::string_view kPhi =
    R"({"model_type": "phi", "hidden_size": 12, "max_position_embeddings": 50, "num_hidden_layers": 2,
        "num_attention_heads": 3, "intermediate_size": 30, "vocab_size": 20})";
inline constexpr std::string_view kStarCoder2 =
    R"({"model_type": "starcoder2", "hidden_size": 16, "max_position_embeddings": 50, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 30, "vocab_size": 20})";
inline constexpr std::string_view kStableLm =
    R"({"model_type": "stablelm", "hidden_size": 256, "max_position_embeddings": 50, "num_hidden_layers": 2,
        "num_attention_heads": 32, "intermediate_size": 30, "vocab_size": 20})";
inline constexpr std::array kMinimalConfigs = {kGpt2,  kLlama,  kBigCode, kGptNeo,     kOpt,
                                               kBloom, kFalcon, kPhi,     kStarCoder2, kStableLm};

/// The fields of `json` and of `more`, members to stand last in it.
inline Metadata config_of(std::string_view json, std::string_view more = "") {
  std::string text(json);
  if (!more.empty()) text.insert(text.rfind('}'), fmt::format(", {}", more));
  return flatten_json(text, "config.json");
}

inline Metadata keys_of(const Metadata& fields) {
  const HfConfig config(fields);
  const Architecture& architecture = find_hf_architecture(config.text("model_type"));
  Metadata keys = architecture.from_hf(config);
  if (architecture.derived_from_hf != nullptr) architecture.derived_from_hf(config);
  config.refuse_unread();
  return keys;
}
inline Metadata keys_of(std::string_view json, std::string_view more = "") { return keys_of(config_of(json, more)); }

inline std::string refusal(std::string_view json, std::string_view more) {
  return error_of([&] { keys_of(config_of(json, more)); });
}

}  // namespace weft::testing
