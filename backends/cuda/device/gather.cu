// A thread makes a run of a row: a group of a large block, else a block, whose elements stay in registers. One row is
// bound by latency, an id and then its bytes; many rows by memory.
#include "backends/cuda/device/gather.h"

#include "backends/cuda/device/blocks.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr unsigned kGatherThreads = 128;  // a row is to reach several SMs

template <typename Block>
constexpr bool kHasGroups = requires {
  Block::kGroups;
};

/// Elements that a thread writes.
template <typename Block>
constexpr int run_of() {
  constexpr int kElems = static_cast<int>(Block::kElems);
  if constexpr (kHasGroups<Block>) return kElems / static_cast<int>(Block::kGroups);
  return kElems < 32 ? kElems : 32;
}

/// A large block without groups is decoded whole by each thread that writes a run of it.
template <typename Block, int kRun>
__device__ void decode_run(const Block& block, unsigned run, float (&y)[kRun]) {
  if constexpr (kHasGroups<Block>) {
    block.decode_group(y, run);
  } else if constexpr (static_cast<int>(Block::kElems) == kRun) {
    block.decode(y);
  } else {
    float whole[Block::kElems];
    block.decode(whole);
    for (int i = 0; i < kRun; ++i) y[i] = whole[run * kRun + i];
  }
}

__device__ float element(const void* table, uint32_t type, int64_t i) {
  if (type == quant::f32.id) return static_cast<const float*>(table)[i];
  if (type == quant::f16.id) return __half2float(static_cast<const __half*>(table)[i]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(table)[i]);
}

__device__ bool holds(const GatherTable& table, int64_t row) { return row >= 0 && row < table.rows; }

template <typename Block>
__global__ void __launch_bounds__(kGatherThreads) gather(const __grid_constant__ GatherArgs a) {
  constexpr int kElems = static_cast<int>(Block::kElems), kRun = run_of<Block>();
  constexpr unsigned kRuns = kElems / kRun;
  wait_for_previous();  // and the next kernel's blocks come when this one's are gone: gemv.cu's stay apart, one an SM
  const int64_t live = rows_of(a.rows);
  const bool adds = a.more.data != nullptr;
  const auto runs = static_cast<unsigned>(a.columns / kRun);
  for (int64_t i = blockIdx.y; i < a.rows.capacity; i += gridDim.y) {
    // Asked for together with `live`.
    const int64_t row = a.table.ids[i] + a.table.offset, other = adds ? a.more.ids[i] + a.more.offset : -1;
    if (i >= live) return;
    const auto* blocks = static_cast<const Block*>(a.table.data) + row * (a.columns / kElems);
    for (unsigned run = blockIdx.x * kGatherThreads + threadIdx.x; run < runs; run += gridDim.x * kGatherThreads) {
      const int64_t first = int64_t{run} * kRun;
      float w[kRun] = {}, more[kRun] = {};
      if (holds(a.table, row)) decode_run(blocks[run / kRuns], run % kRuns, w);
      if (adds && holds(a.more, other)) {
        for (int e = 0; e < kRun; ++e) more[e] = element(a.more.data, a.more.type, other * a.columns + first + e);
      }
      for (float& v : w) v = __fmul_rn(v, a.scale);  // rounded, as by the definition
      for (int e = 0; adds && e < kRun; ++e) w[e] = __fadd_rn(w[e], more[e]);
      float* y = a.y + i * a.columns + first;
      if constexpr (kRun % 4 == 0) {
        for (int e = 0; e < kRun; e += 4) {
          *reinterpret_cast<float4*>(y + e) = {w[e], w[e + 1], w[e + 2], w[e + 3]};
        }
      } else {
        for (int e = 0; e < kRun; ++e) y[e] = w[e];
      }
    }
  }
}

}  // namespace

bool adds_type(uint32_t type) { return type == quant::f32.id || type == quant::f16.id || type == quant::bf16.id; }

void launch_gather(const GatherArgs& a, cudaStream_t stream) {
  if (a.rows.capacity == 0 || a.columns == 0) return;
  with_block(a.table.type, [&]<typename Block>(Block) {
    const int64_t blocks = (a.columns / run_of<Block>() + kGatherThreads - 1) / kGatherThreads;
    const dim3 grid(static_cast<unsigned>(blocks < 1024 ? blocks : 1024),
                    static_cast<unsigned>(a.rows.capacity < 65535 ? a.rows.capacity : 65535));
    launch_dependent(gather<Block>, grid, dim3(kGatherThreads), 0, stream, a);
  });
}

}  // namespace weft::cuda
