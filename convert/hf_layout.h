// How the tensors of a Hugging Face file become those of GGUF: stacked, transposed, rows reordered.
#pragma once

#include <vector>

#include "convert/expert_layout.h"
#include "convert/mapped_tensor.h"
#include "models/architecture.h"

namespace weft {

/// One GGUF tensor over the tensors of the file that it is made of, all of one type.
class HfLayout {
 public:
  /// Throws Error if the parts do not fit the spec (its heads do not divide the rows).
  HfLayout(const TensorSpec& spec, std::vector<MappedTensor> parts);
  /// Experts in mxfp4, packed as gpt-oss has them: see convert/expert_layout.h. Throws Error on other sizes.
  HfLayout(const TensorSpec& spec, PackedTensor blocks, PackedTensor scales);

  const TensorType& type() const { return type_; }
  /// Rows [first, last): mapped where the file has them in this order, made otherwise.
  LoadedTensor rows(int64_t first, int64_t last) const;

 private:
  int64_t source_row(int64_t row) const;

  TensorType type_;
  Transform transform_;
  int64_t heads_, kv_heads_;
  Interleaved take_;
  std::vector<MappedTensor> parts_;
  std::vector<PackedTensor> packed_;  // blocks and scales of mxfp4; else empty
};

/// The shape of each tensor of the file that the spec names.
Shape hf_part_shape(const TensorSpec& spec);

}  // namespace weft
