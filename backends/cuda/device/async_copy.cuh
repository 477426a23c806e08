// Copies from global to shared memory that a thread asks for and, group by group, awaits; before Ampere they are made
// at once. Source: PTX ISA, "cp.async" and "prefetch".
#pragma once

#include <cstdint>

namespace weft::cuda {

/// Asks for the line of L2 that this is in.
__device__ inline void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

/// 16 bytes; `to`: an address in shared memory.
__device__ inline void copy16_async(uint32_t to, const void* from) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
#else
  const uint4 v = __ldg(static_cast<const uint4*>(from));
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
#endif
}
/// The same of 4 bytes.
__device__ inline void copy4_async(uint32_t to, const void* from) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
#else
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(__ldg(static_cast<const uint32_t*>(from))) : "memory");
#endif
}
/// Ends a group, which may be empty.
__device__ inline void end_copy_group() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// Until all of this thread's groups but the last kPending have come.
template <unsigned kPending>
__device__ void await_copy_groups() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

}  // namespace weft::cuda
