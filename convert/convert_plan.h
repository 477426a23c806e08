// What a conversion will write: which type each tensor gets, how large that is.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/checkpoint.h"
#include "models/session/importance.h"

namespace weft {

/// Matrices whose name matches the glob get the type, whatever the mix says.
struct TypeOverride {
  std::string pattern;
  DType type;
};

/// "blk.*.ffn_down.weight=q6_K". Throws Error unless it is a glob and a type that weft can write.
TypeOverride parse_override(std::string_view text);

struct ConvertOptions {
  std::string type = {};                         // a type or a mix: see type_mix.h; empty = as the source has them
  std::vector<TypeOverride> overrides = {};      // the last that matches wins
  bool fallback = true;                          // rows that no block divides get another type (else an Error)
  const ImportanceMatrix* importance = nullptr;  // of the columns, for the encoders; null: all alike
};

struct PlannedTensor {
  std::string name;
  TensorType from, to;
  DType asked;                         // differs from to.dtype where the tensor fell back
  std::vector<float> importance = {};  // of columns, [matrices * columns]; empty: all alike

  bool fell_back() const { return asked != to.dtype; }
};

struct ConvertPlan {
  std::vector<PlannedTensor> tensors;
  uint32_t file_type = 0;  // general.file_type
  size_t bytes = 0;        // of all tensor data
  size_t elements = 0;
  double bits_per_weight() const {
    return elements == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(elements);
  }
};

/// Norms, biases, positions, routers are f32 (other GGUF programs expect it); matrices get the asked type. A matrix
/// that the source has in a mix's base type stays as it is: more bits would add nothing. Throws Error if a type cannot
/// be written, a row is not whole blocks and there is no fallback, an override matches no matrix, or an importance has
/// other columns than its matrix.
ConvertPlan plan_conversion(const Checkpoint& source, const ConvertOptions& options);

}  // namespace weft
