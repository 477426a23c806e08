#include "backends/cuda/device/tensor_map.h"

#include <cuda_runtime_api.h>

namespace weft::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

/// Of the driver, which nothing here is linked with; null if it has none.
Encode find_encode() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result);
#else
  const cudaError_t status = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &result);
#endif
  return status == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(entry) : nullptr;
}

}  // namespace

bool make_tensor_map(CUtensorMap& map, const void* at, int64_t row_bytes, int64_t rows, unsigned box_bytes,
                     unsigned box_rows) {
  static const Encode encode = find_encode();
  if (encode == nullptr) return false;
  constexpr unsigned kElement = 4;  // bytes: a box has at most 256 of them a row
  const cuuint64_t stride = static_cast<cuuint64_t>(row_bytes);
  const cuuint64_t size[2] = {stride / kElement, static_cast<cuuint64_t>(rows)};
  const cuuint32_t box[2] = {box_bytes / kElement, box_rows}, step[2] = {1, 1};
  return encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT32, 2, const_cast<void*>(at), size, &stride, box, step,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace weft::cuda
