// safetensors files: read one, read a folder of them. Writing is in safetensors_writer.h.
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

#include "convert/mapped_file.h"
#include "graph/tensor.h"

namespace weft {

/// A tensor as the file has it, of any dtype of the format.
struct SafetensorsEntry {
  std::string dtype;  // "F16", "U8", ... as spelled in the file
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

/// One mapped file. Entries point into it and live as long.
class SafetensorsFile {
 public:
  /// Throws Error, the path in front, if the file is malformed or truncated.
  explicit SafetensorsFile(std::string path);

  const std::string& path() const { return file_.path(); }
  /// The strings of `__metadata__`.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// In the order of their data.
  const std::vector<std::string>& names() const { return names_; }
  /// Null if there is none of that name.
  const SafetensorsEntry* find(std::string_view name) const;
  /// The tensor of that name, read-only. Throws Error if there is none, or its dtype or rank is not one of weft's.
  Tensor tensor(std::string_view name) const;

 private:
  void parse();

  MappedFile file_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::string> names_;
  std::map<std::string, SafetensorsEntry, std::less<>> entries_;
  std::vector<std::unique_ptr<std::byte[]>> copies_;  // of entries that an odd header length leaves misaligned
};

/// The weights of a Hugging Face folder: model.safetensors, or the shards of model.safetensors.index.json.
class SafetensorsFolder {
 public:
  /// Throws Error if there is neither, a shard is missing or malformed, or lacks a tensor that the index puts there.
  explicit SafetensorsFolder(std::string folder);

  const std::string& path() const { return folder_; }
  /// Shard by shard in the order of their file names, each in the order of its data.
  const std::vector<std::string>& names() const { return names_; }
  const SafetensorsEntry* find(std::string_view name) const;
  /// As SafetensorsFile::tensor.
  Tensor tensor(std::string_view name) const;
  std::span<const SafetensorsFile> files() const { return files_; }

 private:
  std::string folder_;
  std::vector<SafetensorsFile> files_;
  std::vector<std::string> names_;
  std::map<std::string, size_t, std::less<>> file_of_;  // tensor name -> index into files_
};

}  // namespace weft
