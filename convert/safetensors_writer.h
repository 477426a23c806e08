// Writes safetensors files (format: safetensors.h).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "convert/atomic_file.h"
#include "convert/named_type.h"

namespace weft {

/// Streams one file: nothing but the header is held in memory. The file appears under its name at finish().
class SafetensorsWriter {
 public:
  /// Writes the header: f32, f16, bf16 and i32 tensors, data in the order of the list. Throws Error, the path in front,
  /// on another dtype, a name given twice or not UTF-8, or if the file cannot be made.
  SafetensorsWriter(const std::string& path, const std::vector<NamedType>& tensors,
                    const std::map<std::string, std::string>& metadata = {});

  /// The next bytes of the tensors' data. Throws Error on more than the list holds, or a failed write.
  void write(const void* data, size_t bytes);
  /// Throws Error if data is missing or the file cannot be completed.
  void finish();

 private:
  AtomicFile file_;
  uint64_t left_ = 0;  // bytes of data to come
};

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// All at once, data ordered by falling element size so that all of it is aligned. Throws Error as SafetensorsWriter
/// does, and on a packed layout.
void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace weft
