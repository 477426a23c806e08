// GGUF files, versions 2 and 3, in one piece or in shards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "convert/mapped_tensor.h"
#include "models/checkpoint.h"

namespace weft {

/// A GGUF file, or all shards of one. Tensors are leased from the mapped files and read-only. Metadata is that of the
/// first shard, without the `split.` keys: the checkpoint reads as one file.
class GgufFile final : public Checkpoint {
 public:
  /// Opens `path`: a single file or a first shard `PREFIX-00001-of-0000N.gguf`, whose other shards lie beside it.
  /// Throws Error, the path in front, on anything malformed, truncated or unsupported.
  explicit GgufFile(std::string path);

  const std::string& path() const override { return path_; }
  const Metadata& metadata() const override { return metadata_; }
  const std::vector<std::string>& tensor_names() const override { return names_; }
  const TensorType* type(std::string_view name) const override;
  LoadedTensor rows(std::string_view name, int64_t first, int64_t last) const override;

  uint32_t version() const { return version_; }
  size_t n_shards() const { return files_.size(); }
  /// Of all shards together.
  uint64_t file_bytes() const;

 private:
  std::string path_;
  uint32_t version_ = 0;
  Metadata metadata_;
  std::vector<std::string> names_;
  std::map<std::string, MappedTensor, std::less<>> tensors_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
};

}  // namespace weft
