// Copies into shared memory by the copy engine of Hopper: asked for by one thread, awaited by all at a barrier that
// counts bytes. Source: PTX ISA, "cp.async.bulk" and "mbarrier".
#pragma once

#include <cstdint>

namespace weft::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }
/// By one thread, before a barrier of the block.
__device__ inline void init_barrier(uint64_t* barrier) {
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], 1;\n"
      "fence.mbarrier_init.release.cluster;" ::"r"(shared_address(barrier))
      : "memory");
}
/// By one thread, once a round: the round is over when so many bytes have come.
__device__ inline void expect_bytes(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
/// Waits for the end of a round; `parity`: 0 for the first, then in turn.
__device__ inline void wait_bytes(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}
/// All multiples of 16.
__device__ inline void copy_bulk(void* to, const void* from, uint32_t bytes, uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}
/// How L2 is to treat what is copied. First to go: what others come back for, code and activations among it, stays.
template <bool kFirstToGo>
__device__ uint64_t policy_of() {
  uint64_t policy;
  if (kFirstToGo) asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  else asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
/// Of a matrix as `map` (CUtensorMap) cuts it, the box whose first element is (column, row); to: 128-byte aligned;
/// `policy` of policy_of.
__device__ inline void copy_box(void* to, const void* map, uint32_t column, uint32_t row, uint64_t* barrier,
                                uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, "
      "%3}], [%4], %5;" ::"r"(shared_address(to)),
      "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier)), "l"(policy)
      : "memory");
}
__device__ inline void prefetch_map(const void* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }
/// What this thread has read and written may be overwritten by the copy engine, after a barrier of the block.
__device__ inline void release_to_bulk() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#endif

}  // namespace weft::cuda
