// How the copy engine of Hopper sees a matrix in global memory: copy_box() of bulk.cuh takes boxes of it.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace weft::cuda {

/// Rows of row_bytes, cut into boxes of at most 256 rows by box_bytes, at most 1024. All bytes, and the address:
/// multiples of 16. What a box has beyond the matrix is zeros. False if the driver cannot.
bool make_tensor_map(CUtensorMap& map, const void* at, int64_t row_bytes, int64_t rows, unsigned box_bytes,
                     unsigned box_rows);

}  // namespace weft::cuda
