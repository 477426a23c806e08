// A warp takes a row at a time, whole (or an up row, then its gate row), and has a ring of its own in shared memory:
// what it multiplies next is on its way there, chunk after chunk, so no barrier of the block stands in the main loop.
// The ring is filled before the kernel waits for the one before, whose blocks leave room for it: while activations come
// about, weights flow. Bound by memory as long as products take an instruction or two a weight. Finished sums meet in
// shared memory at the end, where a few threads have what is added to them. 64 registers a thread have to do: NOTES.md,
// 25 says what a spill costs.
#include "backends/cuda/device/gemv.h"

#include <algorithm>

#include "backends/cuda/device/async_copy.cuh"
#include "backends/cuda/device/dots.cuh"
#include "backends/cuda/device/epilogue.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr unsigned kWarps = 16;        // of a block, at most
constexpr unsigned kFewestWarps = 4;   // so that a row is normed in a few turns
constexpr unsigned kRingBytes = 4700;  // of a warp: 73 KiB a block, so that two of them and their activations fit

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
template <typename Row>
constexpr unsigned kStages = std::max(kRingBytes / Chunk<Row>::kBytes, 2u);

/// What a warp's sums and what is added to them take: a lane has a sum to finish, or a pair of them.
template <bool kGated>
constexpr unsigned kSumBytes = ((kGated ? 2 : 1) + FarTerms<kGated>::kFloats) * 32 * sizeof(float);

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

/// A task is a row or, gated, an up row and then its gate row.
template <typename Row, int M, bool kGated>
__global__ void __launch_bounds__(kWarps * 32, M == 1 ? 2 : 1)
    gemv(const __grid_constant__ GemvArgs a, const __grid_constant__ Blocks<Row> blocks) {
  using C = Chunk<Row>;
  constexpr unsigned kRows = kGated ? 2 : 1, kStage = C::kBytes, kRing = kStages<Row> * kStage;
  constexpr int kPlanes = Row::kPlanes;
  extern __shared__ float4 memory[];  // the rings; sums, and what is added to them; activations
  auto* const shared = reinterpret_cast<unsigned char*>(memory);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const unsigned ring = warp * kRing, ring_end = ring + kRing;
  auto* const sums_of_block = reinterpret_cast<float*>(shared + warps * kRing);  // [kRows][thread that finishes it]
  const FarTerms<kGated> terms{sums_of_block + kRows * blockDim.x + threadIdx.x, blockDim.x};
  void* const x = shared + warps * (kRing + kSumBytes<kGated>);
  const auto n_out = static_cast<unsigned>(a.weights.begin[a.weights.n_blocks]) / kRows;
  const auto k = static_cast<unsigned>(a.weights.k);
  const unsigned n_chunks = (k + C::kColumns - 1) / C::kColumns;
  // Tasks in turn over all warps: what the device reads at a time stands together in memory.
  const unsigned first_task = blockIdx.x * warps + warp, stride = gridDim.x * warps;
  const auto row_bytes = [&](int plane) { return k / Row::kBlock * Row::Fields::of(plane); };
  /// Bytes that stand before a row of that plane, from a multiple of 16 on.
  const auto slack_of = [&](unsigned row, auto plane) -> unsigned {
    if constexpr (C::is_even(plane)) return 0;
    else return (row - blocks.begin[blocks.block_of(row)]) * row_bytes(plane) % 16;
  };

  constexpr unsigned kNone = ~0u;
  // What is asked for next: the last `left` columns of a row, or of none, the first kColumns of them; this lane's first
  // 16 bytes of those.
  unsigned row, left, stage;
  const unsigned char* from[kPlanes];
  unsigned slack[kPlanes];
  const uint32_t to_lane = static_cast<uint32_t>(__cvta_generic_to_shared(shared)) + lane * 16;
  const auto start = [&] { row = first_task < n_out ? first_task : kNone, left = k, stage = ring; };
  const auto enter = [&] {
    const unsigned block = blocks.block_of(row);
    for_each<kPlanes>([&](auto p) {
      slack[p] = slack_of(row, p);
      const uint64_t before = static_cast<uint64_t>(row - blocks.begin[block]) * row_bytes(p) - slack[p];
      from[p] = blocks.starts[block].at[p] + before + ((k - left) / Row::kBlock * Row::Fields::of(p) + lane * 16);
    });
  };
  const auto advance = [&] {
    if (left > C::kColumns) {
      left -= C::kColumns;
      return;
    }
    left = k;
    if (kGated && row < n_out) {
      row += n_out;
    } else {
      row += stride - (kGated ? n_out : 0);
      if (row >= n_out) row = kNone;
    }
  };
  const auto fetch = [&] {
    if (row != kNone) {
      if (left == k) enter();
      const unsigned columns = left < C::kColumns ? left : C::kColumns;
      for_each<kPlanes>([&](auto p) {
        constexpr int kRoom = C::room(p), kBegin = C::begin(p);
        const auto n = static_cast<int>(columns / Row::kBlock * Row::Fields::of(p) + slack[p] - lane * 16);
#pragma unroll
        for (int piece = 0; piece < kRoom; piece += 512) {
          if (piece < n) copy16_async(to_lane + stage + kBegin + piece, from[p] + piece);
        }
        from[p] += C::bytes(p);
      });
      advance();
    }
    stage += kStage;
    if (stage == ring_end) stage = ring;
    end_copy_group();
  };
  /// What the first fetches left behind, worked out anew, so that no register holds it meanwhile.
  const auto resume = [&] {
    start();
    for (unsigned s = 0; s < kStages<Row> && row != kNone; ++s) advance();
    for_each<kPlanes>([&](auto p) { from[p] = nullptr, slack[p] = 0; });
    if (row != kNone && left < k) enter();
  };

  start();
  for (unsigned s = 0; s < kStages<Row>; ++s) fetch();  // weights depend on nothing
  /// A thread finishes one sum of each `each * warps` tasks of the block, so that few warps do: of a token and a task.
  /// Worked out where it is wanted, since a register would be missed in the loop.
  struct Own {
    unsigned task, token;
    bool exists;
  };
  const unsigned each = warps * 32 / (kWarps * M);  // tasks of a warp
  const auto own_sum = [&](unsigned skipped) -> Own {
    unsigned thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    const unsigned token = thread % M, of_warp = thread / M % kWarps;
    const unsigned task = blockIdx.x * warps + of_warp + thread / (M * kWarps) * stride + skipped;
    return {task, token, of_warp < warps && task < n_out && token < static_cast<unsigned>(a.tokens.capacity)};
  };
  if (const Own own = own_sum(0); own.exists) terms.ask_biases(a, own.task);
  const auto ask_residual = [&] {
    if (const Own own = own_sum(0); own.exists) terms.ask_residual(a, own.token, own.task);
  };
  if (M == 1 && a.prologue.norm != Norm::none) {
    for (unsigned i = threadIdx.x * 32; i < k; i += blockDim.x * 32) {
      prefetch(a.prologue.gamma + i);
      if (a.prologue.beta != nullptr) prefetch(a.prologue.beta + i);
    }
  }
  begin_after_previous();
  if constexpr (M > 1) {
    ask_residual();
  } else {
    if constexpr (Row::kRounds) {
      const typename Row::Activations rounded(x, k);
      const auto put = [&](unsigned i, const float(&y)[8]) { rounded.put(i, y); };
      if (!kGated && a.prologue.norm == Norm::none) {
        norm_row<8, 4, false>(a.prologue, 0, blockIdx.x == 0, put, ask_residual);
        resume();
      } else {
        norm_row<8, 1>(a.prologue, 0, blockIdx.x == 0, put, ask_residual);
        if (kPlanes > 2) resume();  // so many addresses would be spilled
      }
    } else {
      const auto put = [&](unsigned i, const float(&y)[4]) {
        static_cast<float4*>(x)[i / 4 % 2 * (k / 8) + i / 8] = {y[0], y[1], y[2], y[3]};
      };
      norm_row<4, 4>(a.prologue, 0, blockIdx.x == 0, put, ask_residual);
    }
    __syncthreads();
  }
  // Asked for here, looked at when sums are finished.
  const auto n_live = static_cast<int>(a.tokens.live != nullptr ? *a.tokens.live : a.tokens.capacity);
  unsigned at = ring;  // the stage that is multiplied
#pragma unroll 1
  for (unsigned skipped = 0; blockIdx.x * warps + skipped < n_out; skipped += each * stride) {
    if (skipped > 0) {
      __syncthreads();  // sums before these have been read
      if (const Own own = own_sum(skipped); own.exists) {
        terms.ask_biases(a, own.task), terms.ask_residual(a, own.token, own.task);
      }
    }
    float* sum_at = sums_of_block + warp * M + lane;  // lanes below M are tokens
    unsigned out = first_task + skipped;
#pragma unroll 1
    for (unsigned i = 0; i < each && out < n_out; ++i, out += stride, sum_at += kWarps * M) {
#pragma unroll 1
      for (unsigned r = 0; r < kRows; ++r) {
        unsigned begin[kPlanes];  // of each plane of the row in its chunk
        for_each<kPlanes>([&](auto p) { begin[p] = C::begin(p) + slack_of(out + r * n_out, p); });
        float sums[M] = {}, own = 0;
#pragma unroll 1
        for (unsigned c = 0; c < n_chunks; ++c) {
          await_copy_groups<kStages<Row> - 1>();
          __syncwarp();
          SharedPlanes<kPlanes> planes;
#pragma unroll
          for (int p = 0; p < kPlanes; ++p) planes.at[p] = shared + at + begin[p];
#pragma unroll
          for (unsigned n = 0; n < C::kTurns; ++n) {
            const unsigned u = n * 32 + lane;
            if (c * C::kColumns + u * Row::kUnit < k) {
              Row::template add<M>(Row::load(planes, u), c * C::kUnits + u, a, x, sums);
            }
          }
          at += kStage;
          if (at == ring_end) at = ring;
          __syncwarp();
          fetch();
        }
#pragma unroll
        for (unsigned t = 0; t < M; ++t) {
          const float sum = warp_sum(sums[t]);
          if (lane == t) own = sum;
        }
        if (lane < M) sum_at[r * blockDim.x] = own;
      }
    }
    await_copy_groups<0>();  // the terms
    __syncthreads();
    if (const Own own = own_sum(skipped); own.exists && static_cast<int>(own.token) < n_live) {
      const float sum = sums_of_block[threadIdx.x], gate = kGated ? sums_of_block[blockDim.x + threadIdx.x] : sum;
      store<kGated>(a, own.token, own.task, sum, gate, terms.sum(a, own.token, own.task));
    }
  }
}

/// Bytes of shared memory for one vector of activations.
template <typename Row>
size_t activation_bytes(int64_t k) {
  if constexpr (Row::kRounds) return Row::Activations::bytes(k);
  else return static_cast<size_t>(k) * sizeof(float);
}
template <typename Row, bool kGated>
size_t shared_bytes(unsigned warps, size_t activations) {
  return size_t{warps} * (kStages<Row> * Chunk<Row>::kBytes + kSumBytes<kGated>)+activations;
}
/// Warps of a block, as its shared memory has room for their rings; 0: not even a few.
template <typename Row, bool kGated>
unsigned warps_for(size_t activations) {
  const size_t room = shared_memory_limit();
  for (unsigned warps = kWarps; warps >= kFewestWarps; warps /= 2) {
    if (shared_bytes<Row, kGated>(warps, activations) <= room) return warps;
  }
  return 0;
}

template <typename Row, int M, bool kGated>
void launch_grid(const GemvArgs& a, cudaStream_t stream) {
  const auto kernel = gemv<Row, M, kGated>;
  const int64_t k = a.weights.k, n_out = a.weights.rows() / (kGated ? 2 : 1);
  if (n_out == 0) return;
  Blocks<Row> blocks;
  for (int i = 0; i < kMaxBlocks; ++i) {
    blocks.begin[i] = static_cast<unsigned>(i < a.weights.n_blocks ? a.weights.begin[i] : a.weights.rows());
    if (i >= a.weights.n_blocks) continue;
    const int64_t n_blocks = (a.weights.begin[i + 1] - a.weights.begin[i]) * (k / Row::kBlock);
    blocks.starts[i] = plane_starts<Row>(a.weights.block[i], n_blocks);
  }
  const size_t activations = M == 1 ? activation_bytes<Row>(k) : 0;
  // A block an SM, with a few rows each or none: fewer blocks would stand two on an SM, and with them all that follow.
  const auto grid = static_cast<unsigned>(sm_count());
  const int64_t each = (n_out + grid - 1) / grid, most = warps_for<Row, kGated>(activations),
                rounds = (each + most - 1) / most;
  const auto warps = static_cast<unsigned>(std::max<int64_t>((each + rounds - 1) / rounds, kFewestWarps));
  const size_t shared = shared_bytes<Row, kGated>(warps, activations);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  launch_dependent(kernel, dim3(grid), dim3(warps * 32), LaunchShared{shared, cudaSharedmemCarveoutMaxShared}, stream,
                   a, blocks);
}

template <typename Row, int M>
void launch_rows(const GemvArgs& a, cudaStream_t stream) {
  a.gated ? launch_grid<Row, M, true>(a, stream) : launch_grid<Row, M, false>(a, stream);
}

template <typename T>
void launch_plain(const GemvArgs& args, cudaStream_t stream) {
  GemvArgs a = args;
  const int64_t n = a.tokens.capacity;
  if (n <= 1 && warps_for<PlainRow<T>, false>(activation_bytes<PlainRow<T>>(a.weights.k)) > 0) {
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
