// The pickle of a torch.save'd state dict, read as data: it runs nothing, and knows only what tensors are made of.
//
// Source: Python's pickletools.py (the opcodes, protocols 2 to 5) and torch/_utils.py, torch/serialization.py (the
// callables and persistent ids that a state dict uses).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/dtype.h"

namespace weft {

/// Element type of a torch storage.
struct TorchType {
  std::string_view storage;  // "HalfStorage"; empty: only as the dtype of an untyped storage
  std::string_view dtype;    // "float16"
  size_t bytes;
  const TypeTraits* type;  // null if weft has none
};

/// A tensor of the dict: a view of a storage. Sizes, strides and offset count elements.
struct PickledTensor {
  std::string name;
  const TorchType* type = nullptr;
  std::string storage;         // key of the archive's entry
  uint64_t storage_bytes = 0;  // as the pickle says
  int64_t offset = 0;
  std::vector<int64_t> shape, strides;

  /// Whether rows follow each other without holes.
  bool contiguous() const;
  /// Whether it is a matrix whose columns do.
  bool transposed() const;
};

/// The tensors of a pickled dict, in its order; its other values are left out. If it has none, those of the dict inside
/// it that has ({"state_dict": {...}, "epoch": 3}); of several, that called state_dict, model_state_dict or model.
/// Throws Error if there are none, and on anything a state dict has no use for: a global that is not a tensor's ("names
/// os.system: refused"), an unknown opcode, more than 2 million values.
std::vector<PickledTensor> read_pickled_tensors(std::span<const std::byte> pickle);

}  // namespace weft
