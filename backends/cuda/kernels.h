// The kernels of the cuda backend: one function per fused op, in the file of its name. kernels.cpp lists them, best
// first.
#pragma once

#include <vector>

#include "backends/cuda/products.h"
#include "graph/backend.h"

namespace weft::cuda {

Kernel qkv_gemm(Products products);
Kernel flash_attention();
Kernel decode_attention();
Kernel decode_attention_matmul();
Kernel softmax_context();
Kernel vector_matmul(Products products);
Kernel linear(Products products);
Kernel layer_norm_linear(Products products);
Kernel rms_norm_linear(Products products);
Kernel mlp_gemm_residual_add(Products products);
Kernel mlp_gemm(Products products);
Kernel gelu_gemm(Products products);
Kernel residual_add();
Kernel layer_norm();
Kernel rms_norm();
Kernel embedding();
Kernel candidates();
Kernel sample();
Kernel moe_route();
Kernel moe_experts(Products products);

/// In the order of ops/all.h, plain, for weights as they are stored.
std::vector<Kernel> list_primitives();

/// All of them.
std::vector<Kernel> list_kernels();

}  // namespace weft::cuda
