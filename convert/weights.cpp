#include "convert/weights.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "convert/json_parse.h"
#include "convert/printable.h"
#include "convert/safetensors.h"
#include "convert/torch_file.h"

namespace weft {
namespace {

using nlohmann::json;

/// Tensor name -> file name of an index. Throws Error with the path in front.
std::map<std::string, std::string> read_index(const std::string& path) {
  const MappedFile file(path);
  const json root = parse_json(file.text(), path);
  const auto weight_map = root.is_object() ? root.find("weight_map") : root.end();
  require(weight_map != root.end() && weight_map->is_object(), "{}: has no object weight_map", path);
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : weight_map->items()) {
    require(value.is_string(), "{}: the file of tensor {} is a JSON {}, expected a string", path, printable(name),
            value.type_name());
    const auto shard = value.get<std::string>();
    const bool is_inside = !shard.empty() && shard != "." && shard.find('/') == std::string::npos &&
                           shard.find("..") == std::string::npos && shard.find('\0') == std::string::npos;
    require(is_inside, "{}: the file of tensor {} is '{}', expected a name in the same folder", path, printable(name),
            printable(shard));
    out[name] = shard;
  }
  return out;
}

std::string inside(const std::string& folder, std::string_view name) {
  return folder.ends_with('/') ? fmt::format("{}{}", folder, name) : fmt::format("{}/{}", folder, name);
}

std::unique_ptr<const WeightFile> open_file(const std::string& path, bool is_torch) {
  if (is_torch) return std::make_unique<TorchFile>(path);
  return std::make_unique<SafetensorsFile>(path);
}

}  // namespace

WeightsFolder::WeightsFolder(std::string folder) : folder_(std::move(folder)) {
  std::error_code ignored;
  for (const bool is_torch : {false, true}) {
    const std::string single = inside(folder_, is_torch ? "pytorch_model.bin" : "model.safetensors");
    const std::string index = single + ".index.json";
    if (std::filesystem::exists(single, ignored)) {
      files_.push_back(open_file(single, is_torch));
      names_ = files_[0]->names();
      for (const std::string& name : names_) file_of_[name] = 0;
      return;
    }
    if (std::filesystem::exists(index, ignored)) {
      open_index(index, is_torch);
      return;
    }
  }
  fail("{}: has neither model.safetensors nor pytorch_model.bin, nor the index (.index.json) of one", folder_);
}

void WeightsFolder::open_index(const std::string& index, bool is_torch) {
  const std::map<std::string, std::string> weight_map = read_index(index);
  std::map<std::string, size_t> shards;  // file name -> index into files_
  for (const auto& [name, shard] : weight_map) shards.try_emplace(shard, 0);
  for (auto& [shard, at] : shards) {
    at = files_.size();
    try {
      files_.push_back(open_file(inside(folder_, shard), is_torch));
    } catch (const Error& error) {
      throw error.at(index);
    }
  }
  for (const auto& [name, shard] : weight_map) {
    const size_t at = shards[shard];
    require(files_[at]->has(name), "{}: tensor {} is missing, {} puts it there", files_[at]->path(), printable(name),
            index);
    file_of_[name] = at;
  }
  for (size_t at = 0; at < files_.size(); ++at) {
    for (const std::string& name : files_[at]->names()) {
      if (const auto it = file_of_.find(name); it != file_of_.end() && it->second == at) names_.push_back(name);
    }
  }
}

std::optional<PackedTensor> WeightsFolder::packed(std::string_view name) const {
  const auto it = file_of_.find(name);
  return it == file_of_.end() ? std::nullopt : files_[it->second]->packed(name);
}

MappedTensor WeightsFolder::tensor(std::string_view name) const {
  const auto it = file_of_.find(name);
  require(it != file_of_.end(), "{}: tensor {} is missing", folder_, printable(name));
  return files_[it->second]->tensor(name);
}

}  // namespace weft
