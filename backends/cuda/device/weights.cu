// Plain kernels over weights of any type: a thread decodes a block, a warp makes a dot product. Right for every type,
// fast for none: decoded elements pass through local memory.
#include "backends/cuda/device/blocks.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/weights.h"

namespace weft::cuda {
namespace {

constexpr int kTokens = 8;  // that one pass over a row serves

template <typename Block>
__global__ void decode(const Block* weight, float* y, Extent rows, int64_t blocks) {
  const int64_t n = rows_of(rows) * blocks;
  for (int64_t i = thread_index(); i < n; i += n_threads()) weight[i].decode(y + i * Block::kElems);
}

template <typename Block>
__global__ void decode_half(const Block* weight, __half* y, int64_t blocks) {
  constexpr int kElems = static_cast<int>(Block::kElems);
  for (int64_t i = thread_index(); i < blocks; i += n_threads()) {
    float w[kElems];
    weight[i].decode(w);
    for (int e = 0; e < kElems; ++e) y[i * kElems + e] = __float2half_rn(w[e]);
  }
}

template <typename Block>
__global__ void encode(const float* x, Block* y, Extent rows, int64_t blocks) {
  const int64_t n = rows_of(rows) * blocks;
  for (int64_t i = thread_index(); i < n; i += n_threads()) y[i].encode(x + i * Block::kElems);
}

/// Dot products of one row with up to kTokens vectors x + t * x_stride, for every lane of the warp.
template <typename Block>
__device__ void dots(const Block* row, int64_t k, const float* x, int64_t x_stride, int n_tokens,
                     float (&sums)[kTokens]) {
  constexpr int kElems = static_cast<int>(Block::kElems);
  for (float& sum : sums) sum = 0;
  for (int64_t b = threadIdx.x % 32; b < k / kElems; b += 32) {
    float w[kElems];
    row[b].decode(w);
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (t >= n_tokens) break;
      const float* from = x + t * x_stride + b * kElems;
      float sum = 0;
      for (int i = 0; i < kElems; ++i) sum += w[i] * from[i];
      sums[t] += sum;
    }
  }
  for (float& sum : sums) sum = warp_sum(sum);
}

template <typename Block>
__global__ void matmul(const Block* weight, const float* x, float* y, Extent tokens, int64_t n, int64_t k,
                       int64_t y_stride) {
  const int64_t n_tokens = rows_of(tokens), first = static_cast<int64_t>(blockIdx.y) * kTokens;
  if (first >= n_tokens) return;
  const int64_t left = n_tokens - first;
  const int count = static_cast<int>(left < kTokens ? left : kTokens);
  for (int64_t row = thread_index() / 32; row < n; row += n_threads() / 32) {
    float sums[kTokens];
    dots(weight + row * (k / static_cast<int64_t>(Block::kElems)), k, x + first * k, k, count, sums);
    if (threadIdx.x % 32 != 0) continue;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (t < count) y[(first + t) * y_stride + row] = sums[t];
    }
  }
}

template <typename Block>
__global__ void indexed_matmul(const Block* weight, int64_t experts, const float* x, bool x_by_pick, const int32_t* ids,
                               float* y, Extent tokens, int64_t picks, int64_t n, int64_t k) {
  const int64_t n_picks = rows_of(tokens) * picks, blocks = k / static_cast<int64_t>(Block::kElems);
  for (int64_t i = thread_index() / 32; i < n_picks * n; i += n_threads() / 32) {
    const int64_t pick = i / n, row = i % n;
    const int32_t expert = ids[pick];
    float sums[kTokens] = {};
    if (expert >= 0 && expert < experts) {
      dots(weight + (expert * n + row) * blocks, k, x + (x_by_pick ? pick : pick / picks) * k, 0, 1, sums);
    }
    if (threadIdx.x % 32 == 0) y[i] = sums[0];
  }
}

template <typename Block>
__global__ void append_pages(Block* cache, int64_t pages, int64_t heads, int64_t page, int64_t blocks,
                             const float* rows, const int32_t* slots, Extent tokens) {
  const int64_t n = rows_of(tokens) * heads * blocks;
  for (int64_t i = thread_index(); i < n; i += n_threads()) {
    const int64_t block = i % blocks, head = i / blocks % heads, slot = slots[i / blocks / heads];
    if (slot < 0 || slot >= pages * page) continue;
    const int64_t row = (slot / page * heads + head) * page + slot % page;
    cache[row * blocks + block].encode(rows + i * Block::kElems);
  }
}

template <typename Block>
__global__ void gather_pages(const Block* cache, int64_t pages, int64_t heads, int64_t page, int64_t blocks,
                             const int32_t* page_table, const int32_t* lengths, int64_t sequences, int64_t pages_each,
                             float* y) {
  constexpr int kElems = static_cast<int>(Block::kElems);
  const int64_t places = pages_each * page, n = heads * sequences * places * blocks;
  for (int64_t i = thread_index(); i < n; i += n_threads()) {
    const int64_t block = i % blocks, row = i / blocks, place = row % places, sequence = row / places % sequences;
    const int64_t head = row / places / sequences, id = page_table[sequence * pages_each + place / page];
    float w[kElems] = {};
    if (place < lengths[sequence] && id >= 0 && id < pages) {
      cache[((id * heads + head) * page + place % page) * blocks + block].decode(w);
    }
    for (int e = 0; e < kElems; ++e) y[i * kElems + e] = w[e];
  }
}

}  // namespace

bool reads_type(uint32_t type) {
  return with_block(type, [](auto) {});
}
bool encodes_type(uint32_t type) {
  return with_written_block(type, [](auto) {});
}

void launch_decode(uint32_t type, const void* weight, float* y, Extent rows, int64_t columns, cudaStream_t stream) {
  with_block(type, [&]<typename Block>(Block) {
    const int64_t blocks = columns / static_cast<int64_t>(Block::kElems);
    decode<<<blocks_for(rows.capacity * blocks), kThreads, 0, stream>>>(static_cast<const Block*>(weight), y, rows,
                                                                        blocks);
  });
}

void launch_decode_half(uint32_t type, const void* weight, uint16_t* y, int64_t n, cudaStream_t stream) {
  with_block(type, [&]<typename Block>(Block) {
    const int64_t blocks = n / static_cast<int64_t>(Block::kElems);
    decode_half<<<blocks_for(blocks), kThreads, 0, stream>>>(static_cast<const Block*>(weight),
                                                             reinterpret_cast<__half*>(y), blocks);
  });
}

void launch_encode(uint32_t type, const float* x, void* y, Extent rows, int64_t columns, cudaStream_t stream) {
  with_written_block(type, [&]<typename Block>(Block) {
    const int64_t blocks = columns / static_cast<int64_t>(Block::kElems);
    encode<<<blocks_for(rows.capacity * blocks), kThreads, 0, stream>>>(x, static_cast<Block*>(y), rows, blocks);
  });
}

void launch_matmul(uint32_t type, const void* weight, const float* x, float* y, Extent tokens, int64_t n, int64_t k,
                   int64_t y_stride, cudaStream_t stream) {
  if (n == 0 || tokens.capacity == 0) return;
  const dim3 grid(blocks_for(n * 32), static_cast<unsigned>((tokens.capacity + kTokens - 1) / kTokens));
  with_block(type, [&]<typename Block>(Block) {
    matmul<<<grid, kThreads, 0, stream>>>(static_cast<const Block*>(weight), x, y, tokens, n, k, y_stride);
  });
}

void launch_indexed_matmul(uint32_t type, const void* weight, int64_t experts, const float* x, bool x_by_pick,
                           const int32_t* ids, float* y, Extent tokens, int64_t picks, int64_t n, int64_t k,
                           cudaStream_t stream) {
  with_block(type, [&]<typename Block>(Block) {
    indexed_matmul<<<blocks_for(tokens.capacity * picks * n * 32), kThreads, 0, stream>>>(
        static_cast<const Block*>(weight), experts, x, x_by_pick, ids, y, tokens, picks, n, k);
  });
}

void launch_append_pages(uint32_t type, void* cache, int64_t pages, int64_t heads, int64_t page, int64_t d,
                         const float* rows, const int32_t* slots, Extent tokens, cudaStream_t stream) {
  with_written_block(type, [&]<typename Block>(Block) {
    const int64_t blocks = d / static_cast<int64_t>(Block::kElems);
    append_pages<<<blocks_for(tokens.capacity * heads * blocks), kThreads, 0, stream>>>(
        static_cast<Block*>(cache), pages, heads, page, blocks, rows, slots, tokens);
  });
}

void launch_gather_pages(uint32_t type, const void* cache, int64_t pages, int64_t heads, int64_t page, int64_t d,
                         const int32_t* page_table, const int32_t* lengths, int64_t sequences, int64_t pages_each,
                         float* y, cudaStream_t stream) {
  with_block(type, [&]<typename Block>(Block) {
    const int64_t blocks = d / static_cast<int64_t>(Block::kElems);
    gather_pages<<<blocks_for(heads * sequences * pages_each * page * blocks), kThreads, 0, stream>>>(
        static_cast<const Block*>(cache), pages, heads, page, blocks, page_table, lengths, sequences, pages_each, y);
  });
}

}  // namespace weft::cuda
