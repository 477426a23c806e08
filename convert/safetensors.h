// safetensors files, read. Writing is in safetensors_writer.h.
//
//   u64 header length, little-endian; header, JSON: { name: {"dtype", "shape", "data_offsets": [begin, end]}, ... };
//   data: every byte belongs to exactly one tensor
//
// Source: the safetensors format's README and its reference reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/weights.h"

namespace weft {

/// A tensor as the file has it, of any dtype of the format.
struct SafetensorsEntry {
  std::string dtype;  // "F16", "U8", ... as spelled in the file
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // mapped, of any alignment
};

/// One mapped file. Entries point into it and live as long.
class SafetensorsFile final : public WeightFile {
 public:
  /// Throws Error, the path in front, if the file is malformed or truncated.
  explicit SafetensorsFile(std::string path);

  const std::string& path() const override { return file_->path(); }
  /// The strings of `__metadata__`.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// In the order of their data.
  const std::vector<std::string>& names() const override { return names_; }
  bool has(std::string_view name) const override { return find(name) != nullptr; }
  /// Null if there is none of that name.
  const SafetensorsEntry* find(std::string_view name) const;
  /// The tensor of that name. Throws Error if there is none, or its dtype or rank is not one of weft's.
  MappedTensor tensor(std::string_view name) const override;
  std::optional<PackedTensor> packed(std::string_view name) const override;
  LoadedTensor load(std::string_view name) const { return tensor(name).load(); }

 private:
  void parse();

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::string> names_;
  std::map<std::string, SafetensorsEntry, std::less<>> entries_;
};

}  // namespace weft
