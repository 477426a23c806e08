// What stands between two runs of a graph, by one small kernel instead of three copies.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace weft::cuda {

constexpr size_t kLargestTurn = size_t{32} << 10;  // bytes of a head: more comes faster by the copy engine

/// Memory of the host is pinned, and is read and written in place.
struct TurnArgs {
  void* head = nullptr;             // aligned to 16 bytes, as is host_head
  const void* host_head = nullptr;  // what its bytes are to be
  unsigned head_bytes = 0;
  const uint32_t* from = nullptr;  // words of the device, not in the head
  uint32_t* to = nullptr;          // where they go, which may be in the head; null: to the host alone
  uint32_t* to_host = nullptr;     // and here
  unsigned words = 0;
};

void launch_turn(const TurnArgs& args, cudaStream_t stream);

}  // namespace weft::cuda
