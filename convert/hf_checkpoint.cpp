#include "convert/hf_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "convert/json.h"
#include "convert/mapped_file.h"
#include "convert/tokenizer_json.h"

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

/// [in, out] to [out, in], for element types of whole bytes.
void transpose(const Tensor& from, std::byte* to) {
  const int64_t rows = from.dim(0), columns = from.dim(1);
  const size_t size = from.type.dtype->block_bytes;
  constexpr int64_t kTile = 32;  // both sides of a tile stay in cache
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
      for (int64_t c = c0; c < std::min(columns, c0 + kTile); ++c) {
        for (int64_t r = r0; r < std::min(rows, r0 + kTile); ++r) {
          std::memcpy(to + static_cast<size_t>(c * rows + r) * size,
                      from.data + static_cast<size_t>(r * columns + c) * size, size);
        }
      }
    }
  }
}

}  // namespace

HfCheckpoint::HfCheckpoint(std::string folder) : folder_(std::move(folder)), files_(folder_) {
  const std::string config_path = folder_ + "/config.json";
  const Metadata config = flatten_json(read_text(config_path), config_path);
  try {
    const Architecture& architecture = find_hf_architecture(config.text("model_type"));
    metadata_.set("general.architecture", std::string(architecture.name));
    const std::string name = std::filesystem::weakly_canonical(folder_).filename().string();
    if (!name.empty()) metadata_.set("general.name", name);
    const Metadata keys = architecture.from_hf(config);
    for (const auto& [key, value] : keys.entries()) metadata_.set(key, value);
  } catch (const Error& error) {
    throw error.at(config_path);
  }
  const std::string tokenizer_path = folder_ + "/tokenizer.json";
  const std::string tokenizer = read_text_if_there(tokenizer_path);
  if (!tokenizer.empty()) {
    const std::string tokenizer_config = read_text_if_there(folder_ + "/tokenizer_config.json");
    read_tokenizer_json(tokenizer, tokenizer_path, tokenizer_config).write_metadata(metadata_);
  } else {
    metadata_.set("tokenizer.ggml.model", std::string("no_vocab"));
  }
  const Architecture& architecture = find_architecture(metadata_.text("general.architecture"));
  const auto specs = [&] {
    try {
      return architecture.tensors(metadata_);
    } catch (const Error& error) {
      throw error.at(config_path);
    }
  }();
  // The prefix of the model class ("transformer.") is there or not, for all tensors alike but the output matrix.
  const bool prefixed = std::ranges::any_of(
      specs, [&](const TensorSpec& s) { return files_.find(std::string(architecture.hf_prefix) + s.hf) != nullptr; });
  for (const TensorSpec& spec : specs) bind(spec, prefixed ? architecture.hf_prefix : "");
}

void HfCheckpoint::bind(const TensorSpec& spec, std::string_view prefix) {
  const std::string with_prefix = std::string(prefix) + spec.hf;
  const std::string name = files_.find(with_prefix) != nullptr ? with_prefix : spec.hf;
  if (files_.find(name) == nullptr) {
    require(!spec.required, "{}: tensor {} is missing", folder_, with_prefix);
    return;
  }
  Tensor tensor = files_.tensor(name);
  if (spec.transform == Transform::transpose) {
    require(tensor.type.shape.rank() == 2 && tensor.dim(0) == spec.shape[1] && tensor.dim(1) == spec.shape[0],
            "{}: tensor {} is {}, expected [{}, {}]", folder_, name, to_string(tensor.type.shape), spec.shape[1],
            spec.shape[0]);
    transformed_.push_back(std::make_unique<std::byte[]>(tensor.type.bytes()));
    transpose(tensor, transformed_.back().get());
    tensor = {{tensor.type.dtype, spec.shape}, transformed_.back().get()};
  }
  names_.push_back(spec.gguf);
  tensors_.emplace(spec.gguf, tensor);
}

const Tensor* HfCheckpoint::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

}  // namespace weft
