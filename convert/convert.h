// A checkpoint written as GGUF.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "convert/convert_plan.h"

namespace weft {

/// The whole tensor in another type, with every core; `out` has room for it.
void convert_tensor(const Tensor& from, DType to, std::byte* out);

/// Called one at a time, in file order.
struct ConvertEvents {
  /// Bytes of tensor data written so far.
  std::function<void(size_t bytes)> progress = {};
  /// SHA-256 of a tensor's data as written, in hexadecimal. Not computed where nobody listens.
  std::function<void(std::string_view tensor, std::string_view sha256)> hashed = {};
};

/// Writes the file; it appears under its name only when complete. Tensors go through in slabs of a few MiB, one a
/// core: memory does not grow with the model. Throws Error.
void write_gguf(const Checkpoint& source, const ConvertPlan& plan, const std::string& path,
                const ConvertEvents& events = {});

}  // namespace weft
