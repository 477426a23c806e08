// The kernels of the cpu backend: one function per fused op, in the file of its name. kernels.cpp lists them, best
// first.
#pragma once

#include <vector>

#include "backends/cpu/isa/isa.h"
#include "backends/cpu/matmul.h"
#include "graph/backend.h"

namespace weft::cpu {

Kernel qkv_gemm(const IsaKernels& isa, Products products);
Kernel softmax_context(const IsaKernels& isa, Products products);
Kernel vector_matmul(const IsaKernels& isa, Products products);
Kernel linear(const IsaKernels& isa, Products products);
Kernel mlp_gemm_residual_add(const IsaKernels& isa, Products products);
Kernel mlp_gemm(const IsaKernels& isa, Products products);
Kernel gelu_gemm(const IsaKernels& isa, Products products);
Kernel residual_add(const IsaKernels& isa);
Kernel layer_norm(const IsaKernels& isa);
Kernel rms_norm(const IsaKernels& isa);
Kernel moe_route(const IsaKernels& isa);
Kernel moe_experts(const IsaKernels& isa, Products products);
Kernel embedding(const IsaKernels& isa);
Kernel candidates(const IsaKernels& isa);

/// All of them for one instruction set, then the primitives. `deterministic`: without those that serve only plans of
/// many tokens by an arithmetic of their own.
std::vector<Kernel> list_kernels(const IsaKernels& isa, bool deterministic = false);

}  // namespace weft::cpu
