#include "backends/cuda/kernels.h"

namespace weft::cuda {

std::vector<Kernel> list_kernels() {
  std::vector<Kernel> kernels;
  for (const Products products : {Products::int8, Products::skinny, Products::half, Products::gemv, Products::f32}) {
    for (const auto make : {qkv_gemm, vector_matmul, linear, mlp_gemm_residual_add, mlp_gemm, gelu_gemm}) {
      kernels.push_back(make(products));
    }
  }
  for (const Products products : {Products::int8, Products::gemv}) {
    for (const auto make : {layer_norm_linear, rms_norm_linear}) kernels.push_back(make(products));
  }
  for (const auto make : {flash_attention, decode_attention_matmul, decode_attention, softmax_context, residual_add,
                          layer_norm, rms_norm, embedding, candidates, sample, moe_route})
    kernels.push_back(make());
  for (const Products products : {Products::half, Products::int8, Products::gemv})
    kernels.push_back(moe_experts(products));
  for (Kernel& primitive : list_primitives()) kernels.push_back(std::move(primitive));
  return kernels;
}

}  // namespace weft::cuda
