// Writes GGUF files, version 3, tensor data as it comes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "convert/atomic_file.h"
#include "convert/named_type.h"
#include "models/metadata.h"

namespace weft {

/// Streams one GGUF file: nothing but the header is held in memory. The file appears under its name at finish().
/// Every Error begins with, or names, the path.
class GgufWriter {
 public:
  /// Writes the header. Data is aligned to `general.alignment` of the metadata, 32 bytes without it. Throws Error if a
  /// name is too long or occurs twice, a shape has no or more than 4 dimensions or rows of no whole blocks, or the file
  /// cannot be made.
  GgufWriter(const std::string& path, const Metadata& metadata, std::vector<NamedType> tensors);

  /// The next bytes of the tensors' data, in the order of the list: a whole tensor or a part of one, never of two.
  /// Padding is added between tensors. Throws Error if it is more than the tensor holds or the disk refuses.
  void write(const void* data, size_t bytes);
  /// Throws Error if a tensor's data is missing or the file cannot be completed.
  void finish();

 private:
  void skip_empty();

  std::vector<NamedType> tensors_;
  AtomicFile file_;
  uint64_t alignment_;
  size_t current_ = 0;  // tensor being written
  size_t written_ = 0;  // bytes of it
};

}  // namespace weft
