// A warp takes a row or two at a time, whole (or an up row and its gate row), and has a ring of its own in shared
// memory: what it multiplies next is on its way there, chunk after chunk, so no barrier of the block stands in the main
// loop. The ring is filled before the kernel waits for the one before, whose blocks leave room for it: while
// activations come about, weights flow. Bound by memory as long as products take an instruction or two a weight.
#include "backends/cuda/device/gemv.h"

#include <algorithm>

#include "backends/cuda/device/async_copy.cuh"
#include "backends/cuda/device/dots.cuh"
#include "backends/cuda/device/epilogue.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr unsigned kWarps = 8;  // of a block
constexpr unsigned kRingBytes = 72 << 10;  // that all warps' rings come to, at most
constexpr unsigned kFewestStages = 3, kMostStages = 6;

/// How a chunk of a row stands in the ring: its planes one after the other, each from a multiple of 16 bytes on. What a
/// lane copies at a time are 16 bytes too, so a plane may begin and end with some that are not the row's.
template <typename Row>
struct Chunk {
  static constexpr unsigned unit_bytes() {
    unsigned n = 0;
    for (int p = 0; p < Row::kPlanes; ++p) n += Row::Fields::of(p);
    return n * Row::kUnit / Row::kBlock;
  }
  static constexpr unsigned kTurns = unit_bytes() > 20 ? 1 : 2;  // units of a lane
  static constexpr unsigned kUnits = kTurns * 32;
  static constexpr unsigned kColumns = kUnits * Row::kUnit;
  static_assert(kColumns % Row::kBlock == 0);

  static constexpr bool is_even(int plane) { return Row::Fields::of(plane) % 16 == 0; }
  static constexpr unsigned bytes(int plane) { return kColumns / Row::kBlock * Row::Fields::of(plane); }
  static_assert(bytes(0) % 16 == 0 && bytes(Row::kPlanes - 1) % 16 == 0);
  static constexpr unsigned room(int plane) { return bytes(plane) + (is_even(plane) ? 0 : 16); }
  static constexpr unsigned begin(int plane) {
    unsigned at = 0;
    for (int p = 0; p < plane; ++p) at += room(p);
    return at;
  }
  static constexpr unsigned kBytes = begin(Row::kPlanes);
};

/// Stages of a warp's ring.
template <typename Row, int kRows>
constexpr unsigned kStages = std::clamp<unsigned>(kRingBytes / (kWarps * kRows * Chunk<Row>::kBytes), kFewestStages,
                                                  kMostStages);

/// Where the row blocks of the weights are, in the planes of Row.
template <typename Row>
struct Blocks {
  PlaneStarts starts[kMaxBlocks];
  unsigned begin[kMaxBlocks];  // rows; those of no block are past all

  __device__ unsigned block_of(unsigned row) const {
    unsigned block = 0;
#pragma unroll
    for (int i = 1; i < kMaxBlocks; ++i) block += row >= begin[i];
    return block;
  }
};

/// The sum over a warp, of a row each: lane 32 / kRows * r gets that of row r.
template <int kRows>
__device__ float sum_rows(const float (&v)[kRows]) {
  static_assert(kRows == 1 || kRows == 2);
  const bool upper = threadIdx.x % 32 >= 16;
  float mine = v[0];
  if constexpr (kRows == 2) mine = (upper ? v[1] : v[0]) + __shfl_xor_sync(0xFFFFFFFFu, upper ? v[0] : v[1], 16);
  else mine += __shfl_xor_sync(0xFFFFFFFFu, mine, 16);
#pragma unroll
  for (int step = 8; step > 0; step /= 2) mine += __shfl_xor_sync(0xFFFFFFFFu, mine, step);
  return mine;
}

/// A task: kRows neighbouring rows or, gated, an up row and its gate row. n_stages: kStages, where copies are
/// asynchronous.
template <typename Row, int M, int kRows, bool kGated>
__global__ void __launch_bounds__(kWarps * 32, 2)
    gemv(const __grid_constant__ GemvArgs a, const __grid_constant__ Blocks<Row> blocks, unsigned n_stages) {
  static_assert(!kGated || kRows == 2);
  using C = Chunk<Row>;
  constexpr unsigned kOut = kGated ? 1 : kRows, kStage = kRows * C::kBytes;
  constexpr int kPlanes = Row::kPlanes;
  extern __shared__ float4 memory[];  // the rings, then the activations
  auto* const shared = reinterpret_cast<unsigned char*>(memory);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const unsigned ring = warp * n_stages * kStage, ring_end = ring + n_stages * kStage;
  void* const x = shared + kWarps * n_stages * kStage;
  const auto n_rows = static_cast<unsigned>(a.weights.begin[a.weights.n_blocks]), n_out = kGated ? n_rows / 2 : n_rows;
  const auto k = static_cast<unsigned>(a.weights.k);
  const unsigned n_tasks = (n_out + kOut - 1) / kOut, n_chunks = (k + C::kColumns - 1) / C::kColumns;
  const unsigned first_task = blockIdx.x * kWarps + warp, stride = gridDim.x * kWarps;
  const auto row_of = [&](unsigned task, unsigned r) {  // the last task may have rows of the one before
    if (kGated) return task + r * n_out;
    const unsigned row = task * kOut;
    return (row + kOut <= n_out ? row : n_out - kOut) + r;
  };
  const auto row_bytes = [&](int plane) { return k / Row::kBlock * Row::Fields::of(plane); };
  /// Bytes that stand before a row of that plane, from a multiple of 16 on.
  const auto slack_of = [&](unsigned row, auto plane) -> unsigned {
    if constexpr (C::is_even(plane)) return 0;
    else return (row - blocks.begin[blocks.block_of(row)]) * row_bytes(plane) % 16;
  };

  // What is asked for next; of its rows, this lane's first 16 bytes.
  unsigned task = first_task, chunk = 0, stage = ring;
  const unsigned char* from[kRows][kPlanes];
  unsigned slack[kRows][kPlanes];
  const uint32_t to_lane = static_cast<uint32_t>(__cvta_generic_to_shared(shared)) + lane * 16;
  const auto enter = [&] {
#pragma unroll
    for (unsigned r = 0; r < kRows; ++r) {
      const unsigned row = row_of(task, r), block = blocks.block_of(row);
      for_each<kPlanes>([&](auto p) {
        slack[r][p] = slack_of(row, p);
        const uint64_t before = static_cast<uint64_t>(row - blocks.begin[block]) * row_bytes(p) - slack[r][p];
        from[r][p] = blocks.starts[block].at[p] + before + lane * 16;
      });
    }
  };
  const auto fetch = [&] {
    if (task < n_tasks) {
      if (chunk == 0) enter();
      for_each<kPlanes>([&](auto p) {
        constexpr unsigned kBytes = C::bytes(p), kRoom = C::room(p), kBegin = C::begin(p);
        const unsigned left = row_bytes(p) - chunk * kBytes, n = left < kBytes ? left : kBytes;
#pragma unroll
        for (unsigned r = 0; r < kRows; ++r) {
          const uint32_t to = to_lane + stage + r * C::kBytes + kBegin;
#pragma unroll
          for (unsigned piece = 0; piece < kRoom; piece += 512) {
            if (piece + lane * 16 < n + slack[r][p]) copy16_async(to + piece, from[r][p] + piece);
          }
          from[r][p] += kBytes;
        }
      });
      if (++chunk == n_chunks) chunk = 0, task += stride;
    }
    stage += kStage;
    if (stage == ring_end) stage = ring;
    end_copy_group();
  };

  let_next_start();
  for (unsigned s = 0; s + 1 < n_stages; ++s) fetch();  // weights depend on nothing
  if (M == 1 && a.prologue.norm != Norm::none) {
    for (unsigned i = threadIdx.x * 32; i < k; i += kWarps * 32 * 32) prefetch(a.prologue.gamma + i);
  }
  wait_for_previous();
  if constexpr (M == 1) {
    if constexpr (Row::kRounds) {
      const typename Row::Activations rounded(x, k);
      const auto put = [&](unsigned i, const float(&y)[16]) { rounded.put(i, y); };
      if (a.prologue.norm != Norm::none) norm_row<16, 1>(a.prologue, 0, blockIdx.x == 0, put);
      else norm_row<16, 4, false>(a.prologue, 0, blockIdx.x == 0, put);
    } else {
      norm_row<4, 4>(a.prologue, 0, blockIdx.x == 0, [&](unsigned i, const float(&y)[4]) {
        static_cast<float4*>(x)[i / 4 % 2 * (k / 8) + i / 8] = {y[0], y[1], y[2], y[3]};
      });
    }
    __syncthreads();
  }
  const auto n_tokens = static_cast<unsigned>(rows_of(a.tokens));
  // This lane's: a token, and which of the rows.
  const unsigned own_row = lane / (32 / kRows), own_token = lane % (32 / kRows);
  const bool stores = own_token < n_tokens && (!kGated || own_row == 0);
  unsigned at = ring;  // the stage that is multiplied
#pragma unroll 1
  for (unsigned done = first_task; done < n_tasks; done += stride) {
    const unsigned row = row_of(done, kGated ? 0 : own_row);
    Terms terms;
    if (stores) terms = terms_of<kGated>(a, own_token, row);
    unsigned begin[kRows][kPlanes];  // of each plane of a row in its chunk
#pragma unroll
    for (unsigned r = 0; r < kRows; ++r) {
      for_each<kPlanes>([&](auto p) { begin[r][p] = r * C::kBytes + C::begin(p) + slack_of(row_of(done, r), p); });
    }
    float sums[kRows][M] = {};
#pragma unroll 1
    for (unsigned c = 0; c < n_chunks; ++c) {
      await_copy_groups<kStages<Row, kRows> - 2>();
      __syncwarp();
      SharedPlanes<kPlanes> rows[kRows];
#pragma unroll
      for (unsigned r = 0; r < kRows; ++r) {
#pragma unroll
        for (int p = 0; p < kPlanes; ++p) rows[r].at[p] = shared + at + begin[r][p];
      }
#pragma unroll
      for (unsigned turn = 0; turn < C::kTurns; ++turn) {
        const unsigned u = turn * 32 + lane;
        if (c * C::kColumns + u * Row::kUnit < k) {
          typename Row::Unit units[kRows];
#pragma unroll
          for (unsigned r = 0; r < kRows; ++r) units[r] = Row::load(rows[r], u);
          Row::template add<M, kRows>(units, c * C::kUnits + u, a, x, sums);
        }
      }
      at += kStage;
      if (at == ring_end) at = ring;
      __syncwarp();
      fetch();
    }
    float own = 0;
#pragma unroll
    for (int t = 0; t < M; ++t) {
      float v[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) v[r] = sums[r][t];
      const float sum = sum_rows(v);
      const float mine = __shfl_sync(0xFFFFFFFFu, sum, lane / (32 / kRows) * (32 / kRows));
      if (own_token == static_cast<unsigned>(t)) own = mine;
    }
    const float gate = kGated ? __shfl_xor_sync(0xFFFFFFFFu, own, 16) : 0.0f;
    if (stores) store<kGated>(a, own_token, row, own, gate, terms);
  }
}

/// Shared memory that a block may have, and whether copies to it are asynchronous.
struct Device {
  size_t shared;
  bool copies_async;

  static Device current() {
    int device = 0, shared = 48 << 10, major = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    return {static_cast<size_t>(shared), major >= 8};
  }
};

/// Bytes of shared memory for one vector of activations.
template <typename Row>
size_t activation_bytes(int64_t k) {
  if constexpr (Row::kRounds) return Row::Activations::bytes(k);
  else return static_cast<size_t>(k) * sizeof(float);
}
template <typename Row, int kRows>
unsigned stages(const Device& device) {
  return device.copies_async ? kStages<Row, kRows> : 2;
}
template <typename Row, int kRows>
size_t ring_bytes(const Device& device) {
  return size_t{stages<Row, kRows>(device)} * kWarps * kRows * Chunk<Row>::kBytes;
}

template <typename Row, int M, int kRows, bool kGated>
void launch_grid(const GemvArgs& a, cudaStream_t stream) {
  const auto kernel = gemv<Row, M, kRows, kGated>;
  const int64_t k = a.weights.k, n_out = a.weights.rows() / (kGated ? 2 : 1);
  Blocks<Row> blocks;
  for (int i = 0; i < kMaxBlocks; ++i) {
    blocks.begin[i] = static_cast<unsigned>(i < a.weights.n_blocks ? a.weights.begin[i] : a.weights.rows());
    if (i >= a.weights.n_blocks) continue;
    const int64_t n_blocks = (a.weights.begin[i + 1] - a.weights.begin[i]) * (k / Row::kBlock);
    blocks.starts[i] = plane_starts<Row>(a.weights.block[i], n_blocks);
  }
  const Device device = Device::current();
  const size_t shared = ring_bytes<Row, kRows>(device) + (M == 1 ? activation_bytes<Row>(k) : 0);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  constexpr int64_t kOut = kGated ? 1 : kRows;
  const int64_t tasks = (n_out + kOut - 1) / kOut, wanted = (tasks + kWarps - 1) / kWarps;
  const auto grid = static_cast<unsigned>(std::min<int64_t>(wanted, sm_count()));
  launch_dependent(kernel, dim3(grid), dim3(kWarps * 32), LaunchShared{shared, cudaSharedmemCarveoutMaxShared}, stream,
                   a, blocks, stages<Row, kRows>(device));
}

template <typename Row, int M>
void launch_rows(const GemvArgs& a, cudaStream_t stream) {
  if (a.gated) return launch_grid<Row, M, 2, true>(a, stream);
  // Two rows a warp share the loads of x; one, where that leaves fewer warps idle.
  const int64_t rows = a.weights.rows(), warps = sm_count() * kWarps;
  const auto turns = [&](int64_t each) { return ((rows + each - 1) / each + warps - 1) / warps * each; };
  constexpr bool kRoom = kWarps * 2 * Chunk<Row>::kBytes * kFewestStages <= kRingBytes;
  !kRoom || turns(1) < turns(2) ? launch_grid<Row, M, 1, false>(a, stream) : launch_grid<Row, M, 2, false>(a, stream);
}

template <typename T>
void launch_plain(const GemvArgs& args, cudaStream_t stream) {
  GemvArgs a = args;
  const int64_t n = a.tokens.capacity;
  if (n <= 1 && ring_bytes<PlainRow<T>, 2>(Device::current()) + activation_bytes<PlainRow<T>>(a.weights.k) <=
                    Device::current().shared) {
    if (a.prologue.x == nullptr) a.prologue = {.x = a.x, .d = a.weights.k};
    launch_rows<PlainRow<T>, 1>(a, stream);
  } else if (n <= 4) {
    launch_rows<PlainRow<T>, 4>(a, stream);
  } else {
    launch_rows<PlainRow<T>, 8>(a, stream);
  }
}

}  // namespace

bool gemv_reads(uint32_t type, int64_t k) { return (type == 0 || type == 1 || type == 30) && k % 8 == 0; }

void launch_gemv(const GemvArgs& args, cudaStream_t stream) {
  for (int64_t t = 0; t < args.tokens.capacity; t += kGemvTokens) {
    const GemvArgs a = tokens_from(args, t, kGemvTokens);
    switch (a.weights.type) {
      case 0:
        launch_plain<float>(a, stream);
        break;
      case 1:
        launch_plain<__half>(a, stream);
        break;
      case 30:
        launch_plain<__nv_bfloat16>(a, stream);
        break;
      default:
        with_format(a.weights.type, [&]<typename F>(F) { launch_rows<QuantizedRow<F>, 1>(a, stream); });
    }
  }
}

}  // namespace weft::cuda
