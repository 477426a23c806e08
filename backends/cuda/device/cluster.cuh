// Blocks of a cluster (Hopper): how many they are, a barrier of theirs, and reading each other's shared memory.
// Source: PTX ISA, "barrier.cluster" and "mapa".
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace weft::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
/// 1 where the launch asked for no cluster.
__device__ inline unsigned cluster_blocks() {
  unsigned n;
  asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(n));
  return n;
}
__device__ inline unsigned rank_in_cluster() {
  unsigned n;
  asm("mov.u32 %0, %%cluster_ctaid.x;" : "=r"(n));
  return n;
}
/// By all threads of all its blocks; what they wrote before is seen by those that have waited.
__device__ inline void arrive_at_cluster() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }
/// The same, but what was written before need not be seen: the block is done with its mates' memory.
__device__ inline void arrive_done_at_cluster() { asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory"); }
__device__ inline void wait_for_cluster() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }
/// What the block of that rank has where `own` is in this one.
__device__ inline float4 load_of_mate(const float* own, unsigned rank) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(own));
  float4 v;
  asm volatile(
      "{\n"
      ".reg .u32 there;\n"
      "mapa.shared::cluster.u32 there, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n"
      "}"
      : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
      : "r"(address), "r"(rank)
      : "memory");
  return v;
}
#endif

}  // namespace weft::cuda
