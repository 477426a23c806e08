// What a config.json becomes.
#pragma once

#include <string>
#include <string_view>

#include "convert/json.h"
#include "models/architecture.h"
#include "tests/convert/temp_folder.h"

namespace weft::testing {

/// Fields of `json`, and of `more`, the inside of an object.
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

inline std::string refusal(std::string_view json, std::string_view more) {
  return error_of([&] { keys_of(config_of(json, more)); });
}

}  // namespace weft::testing
