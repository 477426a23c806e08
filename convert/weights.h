// The weights of a Hugging Face folder under their own names, whatever the format of the files.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "convert/mapped_tensor.h"

namespace weft {

class WeightFile {
 public:
  virtual ~WeightFile() = default;

  virtual const std::string& path() const = 0;
  virtual const std::vector<std::string>& names() const = 0;
  virtual bool has(std::string_view name) const = 0;
  /// Throws Error if there is none of that name, or it is one that weft cannot use: of another dtype or layout.
  virtual MappedTensor tensor(std::string_view name) const = 0;
  /// The same whatever its dtype; nothing if there is none of that name, or the format has no such dtypes.
  virtual std::optional<PackedTensor> packed(std::string_view /*name*/) const { return {}; }
};

/// model.safetensors, else the shards of model.safetensors.index.json, else pytorch_model.bin, else its shards.
class WeightsFolder {
 public:
  /// Throws Error if there is none of these, a file is missing or malformed, or lacks a tensor that the index puts
  /// there.
  explicit WeightsFolder(std::string folder);

  const std::string& path() const { return folder_; }
  /// File by file in the order of their names, each in its own order.
  const std::vector<std::string>& names() const { return names_; }
  bool has(std::string_view name) const { return file_of_.contains(name); }
  /// As WeightFile::tensor.
  MappedTensor tensor(std::string_view name) const;
  std::optional<PackedTensor> packed(std::string_view name) const;
  const std::vector<std::unique_ptr<const WeightFile>>& files() const { return files_; }

 private:
  void open_index(const std::string& index, bool is_torch);

  std::string folder_;
  std::vector<std::unique_ptr<const WeightFile>> files_;
  std::vector<std::string> names_;
  std::map<std::string, size_t, std::less<>> file_of_;  // tensor name -> index into files_
};

}  // namespace weft
