// A tensor as it lies in a mapped file: what the readers of all weight formats give.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "convert/mapped_file.h"
#include "models/checkpoint.h"

namespace weft {

struct MappedTensor {
  TensorType type;
  const std::byte* data = nullptr;  // inside `file`; of any alignment
  std::shared_ptr<const MappedFile> file;
  bool transposed = false;  // the file has the matrix's columns one after the other; elements are of whole bytes then

  /// Rows [first, last) as [last - first, columns]: the mapped bytes themselves, whose pages are let go with the lease,
  /// or a copy where the file leaves elements misaligned or has them transposed.
  LoadedTensor rows(int64_t first, int64_t last) const;
  void copy_rows(int64_t first, int64_t last, std::byte* to) const;
  /// The same bytes as the transpose of this matrix.
  MappedTensor turned() const;
  void drop_pages() const { file->drop_pages({data, type.bytes()}); }
  LoadedTensor load() const { return rows(0, type.shape.rows()).reshaped(type.shape); }
};

/// One whose element type is none of weft's, as the file spells it: weights packed in a way of their own.
struct PackedTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // inside `file`
  std::shared_ptr<const MappedFile> file;
};

}  // namespace weft
