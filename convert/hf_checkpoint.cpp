#include "convert/hf_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>

#include "convert/chat_template.h"
#include "convert/json.h"
#include "convert/mapped_file.h"
#include "convert/tokenizer_json.h"
#include "ops/quant/f32.h"

namespace weft {
namespace {

std::string read_text(const std::string& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string read_text_if_there(const std::string& path) {
  return std::filesystem::exists(path) ? read_text(path) : std::string();
}

}  // namespace

HfCheckpoint::HfCheckpoint(std::string folder) : folder_(std::move(folder)), files_(folder_) {
  const std::string config_path = folder_ + "/config.json";
  const HfConfig config(flatten_json(read_text(config_path), config_path));
  std::vector<DerivedTensor> derived_tensors;
  std::optional<bool> tied;  // the output matrix to the embedding, where config.json says
  try {
    const Architecture& architecture = find_hf_architecture(config.text("model_type"));
    metadata_.set("general.architecture", std::string(architecture.name));
    const std::string name = std::filesystem::weakly_canonical(folder_).filename().string();
    if (!name.empty()) metadata_.set("general.name", name);
    const Metadata keys = architecture.from_hf(config);
    for (const auto& [key, value] : keys.entries()) metadata_.set(key, value);
    if (architecture.derived_from_hf != nullptr) derived_tensors = architecture.derived_from_hf(config);
    if (config.has("tie_word_embeddings")) tied = config.boolean("tie_word_embeddings", false);
    config.refuse_unread();
  } catch (const Error& error) {
    throw error.at(config_path);
  }
  const std::string tokenizer_path = folder_ + "/tokenizer.json";
  const std::string tokenizer = read_text_if_there(tokenizer_path);
  if (!tokenizer.empty()) {
    const std::string tokenizer_config = read_text_if_there(folder_ + "/tokenizer_config.json");
    read_chat_templates(folder_, tokenizer_config, metadata_);
    read_tokenizer_json(tokenizer, tokenizer_path, tokenizer_config).write_metadata(metadata_);
  } else {
    metadata_.set("tokenizer.ggml.model", std::string("no_vocab"));
  }
  const Architecture& architecture = find_architecture(metadata_.text("general.architecture"));
  auto specs = [&] {
    try {
      const auto n_layer = static_cast<size_t>(architecture.shape(metadata_).n_layer);
      require(n_layer <= files_.names().size(), "says {} layers, the folder has {} tensors", n_layer,
              files_.names().size());
      return architecture.tensors(metadata_);
    } catch (const Error& error) {
      throw error.at(config_path);
    }
  }();
  // The prefix of the model class ("transformer.") is there or not, for all tensors alike but the output matrix.
  const bool prefixed = std::ranges::any_of(specs, [&](const TensorSpec& s) {
    return !s.hf.empty() && files_.has(std::string(architecture.hf_prefix) + s.hf.front());
  });
  for (TensorSpec& spec : specs) {
    if (spec.gguf == "output.weight" && tied) {
      const std::string& head = spec.hf.front();
      require(*tied || files_.has(head) || files_.has(std::string(architecture.hf_prefix) + head),
              "{}: tensor {} is missing, and tie_word_embeddings is false: a base model was saved, without its output "
              "matrix",
              folder_, head);
      spec.required = !*tied;
      if (*tied && spec.hf_otherwise.empty()) continue;
      if (*tied) spec.hf = {spec.hf_otherwise};
      else spec.hf_otherwise.clear();
    }
    bind(spec, prefixed ? architecture.hf_prefix : "");
  }
  for (const DerivedTensor& derived : derived_tensors) {
    const TensorType type{quant::f32, {static_cast<int64_t>(derived.values.size())}};
    auto [tensor, bytes] = allocate_tensor(type);
    std::memcpy(bytes, derived.values.data(), type.bytes());
    names_.push_back(derived.gguf);
    derived_.emplace(derived.gguf, tensor);
  }
}

void HfCheckpoint::bind(const TensorSpec& spec, std::string_view prefix) {
  const auto keep = [&](auto... from) {
    try {
      tensors_.emplace(spec.gguf, HfLayout(spec, std::move(from)...));
    } catch (const Error& error) {
      throw error.at(folder_);
    }
    names_.push_back(spec.gguf);
  };
  if (spec.transform == Transform::expert_columns) {
    const std::string name = std::string(prefix) + spec.hf.front();
    auto blocks = files_.packed(name + "_blocks"), scales = files_.packed(name + "_scales");
    if (blocks && scales) return keep(std::move(*blocks), std::move(*scales));
  }
  if (!spec.hf_stacked.empty() && !files_.has(std::string(prefix) + spec.hf.front())) {
    TensorSpec stacked = spec;
    stacked.hf = {spec.hf_stacked};
    stacked.transform = spec.parts > 1 ? Transform::expert_rows : Transform::none;
    stacked.hf_stacked.clear();
    if (files_.has(std::string(prefix) + spec.hf_stacked)) return bind(stacked, prefix);
  }
  std::vector<MappedTensor> parts;
  const Shape part_shape = hf_part_shape(spec);
  for (const std::string& hf : spec.hf) {
    const std::string with_prefix = std::string(prefix) + hf;
    std::string name = files_.has(with_prefix) ? with_prefix : hf;
    if (!files_.has(name) && !spec.hf_otherwise.empty()) name = std::string(prefix) + spec.hf_otherwise;
    if (!files_.has(name)) {
      require(!spec.required, "{}: tensor {} is missing", folder_, with_prefix);
      return;
    }
    parts.push_back(files_.tensor(name));
    const TensorType& type = parts.back().type;
    require(type.shape == part_shape, "{}: tensor {} is {}, config.json says {}", folder_, name, to_string(type),
            to_string(part_shape));
    require(type.dtype == parts.front().type.dtype, "{}: tensor {} is {}, its siblings are {}", folder_, name,
            type.dtype.name(), parts.front().type.dtype.name());
  }
  if (!parts.empty()) keep(std::move(parts));
}

const TensorType* HfCheckpoint::type(std::string_view name) const {
  if (const auto it = tensors_.find(name); it != tensors_.end()) return &it->second.type();
  const auto it = derived_.find(name);
  return it == derived_.end() ? nullptr : &it->second->type;
}

LoadedTensor HfCheckpoint::rows(std::string_view name, int64_t first, int64_t last) const {
  if (const auto it = tensors_.find(name); it != tensors_.end()) return it->second.rows(first, last);
  const LoadedTensor& vector = derived_.find(name)->second;  // one row, or none of it
  return vector.reshaped({last - first, vector->type.shape.columns()});
}

}  // namespace weft
