// A checkpoint written as GGUF: which type each tensor gets, the forecast, and the writing.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "models/checkpoint.h"

namespace weft {

struct ConvertOptions {
  DType type;            // of the matrices; none = as the source has them
  bool fallback = true;  // rows that no block divides: f16 (else an Error)
};

struct PlannedTensor {
  std::string name;
  TensorType from, to;
  bool fell_back = false;  // asked for another type, but its rows are not whole blocks
};

struct ConvertPlan {
  std::vector<PlannedTensor> tensors;
  size_t bytes = 0;  // of all tensor data
  size_t elements = 0;
  double bits_per_weight() const {
    return elements == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(elements);
  }
};

/// Vectors and position embeddings stay f32 (other GGUF programs expect it); matrices get the asked type.
/// Throws Error if a type cannot be written, or a row is not whole blocks and there is no fallback.
ConvertPlan plan_conversion(const Checkpoint& source, const ConvertOptions& options);

/// The whole tensor in another type, with every core; `out` has room for it.
void convert_tensor(const Tensor& from, DType to, std::byte* out);

/// Writes the file; it appears under its name only when complete. `progress` gets bytes of the result written so far.
void write_gguf(const Checkpoint& source, const ConvertPlan& plan, const std::string& path,
                const std::function<void(size_t)>& progress = nullptr);

}  // namespace weft
