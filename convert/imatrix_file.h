// Importance matrices in files: read and written as the GGUF that llama.cpp's tools use; its older ".dat" form is read.
//
//   GGUF: general.type = "imatrix", imatrix.datasets [string], imatrix.chunk_count, imatrix.chunk_size u32;
//         by weight: NAME.in_sum2 f32 [matrices, columns], NAME.counts f32 [matrices, 1]
//   .dat: i32 n; n times: i32 length, name, i32 calls, i32 n_values, f32 values (mean square times calls);
//         what follows (last call, dataset) is not needed
#pragma once

#include <string>

#include "models/session/importance.h"

namespace weft {

struct ImatrixInfo {
  std::string dataset;
  uint32_t chunks = 0, chunk_tokens = 0;
};

/// Throws Error, the path in front, if the file is neither form, truncated, or holds a value that is negative or not
/// finite.
ImportanceMatrix read_imatrix(const std::string& path);

void write_imatrix(const std::string& path, const ImportanceMatrix& matrix, const ImatrixInfo& info);

}  // namespace weft
