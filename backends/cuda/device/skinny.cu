// A warp multiplies tiles of 16 rows by 256 columns: lane 4 g + t takes columns [64 t, 64 t + 64) of rows g and g + 8,
// unpacks them to f16 in registers, and so holds what mma.m16n8k16 wants of them for 16 steps. The warps of a block
// share out the columns of a task's rows and add up their parts in order. For what staged.h does not take: single
// tokens, rows of odd lengths, older devices.
#include "backends/cuda/device/skinny.h"

#include <cuda_fp16.h>

#include "backends/cuda/device/epilogue.cuh"
#include "backends/cuda/device/formats.cuh"
#include "backends/cuda/device/fragments.cuh"
#include "backends/cuda/device/halves.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/mma.cuh"
#include "backends/cuda/device/pdl.cuh"
#include "backends/cuda/device/staged.h"

namespace weft::cuda {
namespace {

constexpr int kWarps = 8;                    // a block
constexpr int kTileRows = 16, kPanel = 256;  // rows and columns of a warp's tile

/// 32 columns of a row as f16, four columns a step, in the order 0, 2, 1, 3.
struct Halves {
  uint32_t even[8], odd[8];
};

/// 64 columns of a row, as they are stored.
template <typename F>
struct Piece {
  static constexpr int kUnits = 64 / F::kUnit;
  typename F::Unit unit[kUnits];

  /// `run`: which 32 of them; `t`: which piece of the panel this is.
  __device__ Halves expand(unsigned t, unsigned run) const {
    const unsigned i = run % kUnits;
    const Columns<F> columns(unit[i], (t * kUnits + i) % F::kUnitsPerBlock, run / kUnits);
    Halves halves;
#pragma unroll
    for (int s = 0; s < 8; ++s) columns.four(s, halves.even[s], halves.odd[s]);
    return halves;
  }
};

/// Where a row of the weights is.
template <typename F>
struct Row {
  PlaneStarts start;

  __device__ void enter(const GemvWeights& w, int64_t row) {
    const Place place = place_of(w, row);
    const int64_t rows = w.begin[place.block + 1] - w.begin[place.block];
    const int64_t row_blocks = w.k / (F::kUnit * F::kUnitsPerBlock);
    start = moved<F>(plane_starts<F>(w.block[place.block], rows * row_blocks), place.row * row_blocks);
  }
  __device__ Piece<F> load(unsigned panel, unsigned t, unsigned n_units) const {
    Piece<F> piece;
#pragma unroll
    for (int i = 0; i < Piece<F>::kUnits; ++i) {
      const unsigned u = (panel * 4 + t) * Piece<F>::kUnits + i;
      piece.unit[i] = u < n_units ? F::load(start, u) : typename F::Unit{};
    }
    return piece;
  }
};

template <bool kGated>
__device__ __noinline__ void store_far(const GemvArgs& a, int64_t t, int64_t row, float v, float gate) {
  store<kGated>(a, t, row, v, gate, terms_of<kGated>(a, t, row));
}

template <typename F, int kTiles>
struct Stage {
  Piece<F> low[kTiles], high[kTiles];  // rows g and g + 8 of each tile
};

template <typename F, int kTiles>
constexpr int stages_ahead() {
  constexpr int kFit = 200 / static_cast<int>(sizeof(Stage<F, kTiles>));
  return kFit < 1 ? 1 : kFit > 3 ? 3 : kFit;
}

/// Blocks of an SM that there are registers for.
template <typename F, int kN, int kTiles>
constexpr int kResident = kTiles* kN >= 4 || sizeof(Stage<F, kTiles>) > 200 ? 1 : 2;

/// How a block's warps share out the work: `splits` of them the columns of one task, the others other tasks.
struct Share {
  int splits;
  bool prologue;  // the block makes the fragments of its one token
};

/// kN: tiles of 8 tokens. A task is kTiles tiles of 16 rows: neighbours or, gated, 16 up rows and their gate rows.
template <typename F, int kN, int kTiles, bool kGated>
__global__ void __launch_bounds__(kWarps * 32, (kResident<F, kN, kTiles>))
    skinny(const __grid_constant__ GemvArgs a, Share share) {
  extern __shared__ float4 memory[];
  constexpr int kAhead = stages_ahead<F, kTiles>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int split = warp % share.splits, slot = warp / share.splits, slots = kWarps / share.splits;
  const int k = static_cast<int>(a.weights.k), n_panels = (k + kPanel - 1) / kPanel, n_units = k / F::kUnit;
  const int64_t n_rows = a.weights.begin[a.weights.n_blocks], n_out = kGated ? n_rows / 2 : n_rows;
  constexpr int kTaskRows = kGated ? kTileRows : kTileRows * kTiles;
  const int64_t n_tasks = (n_out + kTaskRows - 1) / kTaskRows, stride = static_cast<int64_t>(gridDim.x) * slots;
  const auto row_of = [&](int64_t task, int tile, int r) {
    const int64_t row = task * kTaskRows + (kGated ? 0 : tile * kTileRows) + r;
    return (row < n_out ? row : n_out - 1) + (kGated ? tile * n_out : 0);  // the last task may have a row twice
  };

  // The stage to load next.
  int64_t task = static_cast<int64_t>(blockIdx.x) * slots + slot;
  int panel = split;
  Row<F> low[kTiles], high[kTiles];
  const auto enter = [&] {
    if (task >= n_tasks) return;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      low[i].enter(a.weights, row_of(task, i, g));
      high[i].enter(a.weights, row_of(task, i, g + 8));
    }
  };
  Stage<F, kTiles> ahead[kAhead];
  const auto fetch = [&](Stage<F, kTiles>& to) {
    if (task < n_tasks && panel < n_panels) {
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        to.low[i] = low[i].load(panel, t, n_units);
        to.high[i] = high[i].load(panel, t, n_units);
      }
    }
    panel += share.splits;
    if (panel >= n_panels) {
      panel = split;
      task += stride;
      enter();
    }
  };
  let_next_start();
  enter();
#pragma unroll
  for (int i = 0; i < kAhead; ++i) fetch(ahead[i]);  // weights depend on nothing
  wait_for_previous();

  // The fragments: a lane's 16 bytes for two steps. Those made here are of one row, and the lanes of the others have
  // none.
  const uint4* x = reinterpret_cast<const uint4*>(a.fragments.x) + lane;
  int x_stride = 32;
  float own_unscale = 1;
  if (share.prologue) {
    own_unscale = write_fragments(a.prologue, 0, blockIdx.x == 0, reinterpret_cast<__half*>(memory), 0, 1);
    x = reinterpret_cast<const uint4*>(memory) + t;
    x_stride = 4;
  }
  const bool reads = !share.prologue || g == 0;
  const int n_tokens = static_cast<int>(rows_of(a.tokens));
  // [2][warp][tile][row][token]: the warps' parts of a task's sums.
  constexpr int kColumns = kN * 8, kPart = kTiles * kTileRows * kColumns;
  float* parts = reinterpret_cast<float*>(memory + (share.prologue ? n_panels * (kPanel / 8) : 0));

  float sums[kTiles][kN][4] = {};
  const auto add = [&](const Stage<F, kTiles>& stage, int at) {
    const uint4* panel_x = x + at * 8 * x_stride;
#pragma unroll
    for (int run = 0; run < 2; ++run) {
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        const Halves lower = stage.low[i].expand(t, run), upper = stage.high[i].expand(t, run);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll
          for (int n = 0; n < kN; ++n) {
            const uint4 b = reads ? panel_x[(n * n_panels * 8 + run * 4 + j) * x_stride] : uint4{};
            mma(sums[i][n], {lower.even[2 * j], upper.even[2 * j], lower.odd[2 * j], upper.odd[2 * j]}, b.x, b.y);
            mma(sums[i][n], {lower.even[2 * j + 1], upper.even[2 * j + 1], lower.odd[2 * j + 1], upper.odd[2 * j + 1]},
                b.z, b.w);
          }
        }
      }
    }
  };
  int parity = 0;
  const auto finish = [&](int64_t first_task) {
    float* own = parts + (parity * kWarps + warp) * kPart;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        const int token = n * 8 + 2 * t;
        float* to = own + (i * kTileRows + g) * kColumns + token;
        if (token < n_tokens) {
          *reinterpret_cast<float2*>(to) = {sums[i][n][0], sums[i][n][1]};
          *reinterpret_cast<float2*>(to + 8 * kColumns) = {sums[i][n][2], sums[i][n][3]};
        }
#pragma unroll
        for (float& sum : sums[i][n]) sum = 0;
      }
    }
    __syncthreads();
    const unsigned n_items = static_cast<unsigned>(slots * kTaskRows * n_tokens), slot_bits = __ffs(slots) - 1;
    for (unsigned item = threadIdx.x; item < n_items; item += kWarps * 32) {
      const unsigned r = item % kTaskRows, s = item / kTaskRows & (slots - 1), token = item / kTaskRows >> slot_bits;
      const int64_t row = (first_task + s) * kTaskRows + r;
      if (row >= n_out) continue;
      const float* from = parts + (parity * kWarps + s * share.splits) * kPart + r * kColumns + token;
      float v = 0, gate = 0;
      for (int i = 0; i < share.splits; ++i) {
        v += from[i * kPart];
        if (kGated) gate += from[i * kPart + kTileRows * kColumns];
      }
      const float unscale = share.prologue ? own_unscale : a.fragments.unscale[token];
      store_far<kGated>(a, token, row, v * unscale, gate * unscale);
    }
    parity ^= 1;
  };

  int64_t done = static_cast<int64_t>(blockIdx.x) * slots;  // the block's first task whose sums grow
  int at = split;
  while (done < n_tasks) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (at < n_panels) {
        add(ahead[i], at);
        fetch(ahead[i]);
      }
      at += share.splits;
      if (at < n_panels) continue;
      at = split;
      finish(done);
      done += stride;
      if (done >= n_tasks) break;
    }
  }
}

template <typename F, int kN, int kTiles, bool kGated>
void launch_tiles(const GemvArgs& a, cudaStream_t stream) {
  constexpr int kTaskRows = kGated ? kTileRows : kTileRows * kTiles;
  const int64_t panels = FragmentRows::padded(a.weights.k) / kPanel;
  Share share{.splits = kWarps, .prologue = a.prologue.x != nullptr};
  while (share.splits > 1 && share.splits / 2 >= panels) share.splits /= 2;
  const size_t parts = size_t{2} * kWarps * kTiles * kTileRows * kN * 8 * sizeof(float);
  const size_t shared = parts + (share.prologue ? static_cast<size_t>(panels) * kPanel * 2 : 0);
  const auto kernel = skinny<F, kN, kTiles, kGated>;
  if (shared > 48 << 10)
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  int resident = 1;
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, kWarps * 32, shared);
  const int64_t n_out = a.weights.rows() / (a.gated ? 2 : 1), slots = kWarps / share.splits;
  const int64_t blocks = ((n_out + kTaskRows - 1) / kTaskRows + slots - 1) / slots;
  const int64_t most = static_cast<int64_t>(sm_count()) * (resident < 1 ? 1 : resident);
  launch_dependent(kernel, dim3(static_cast<unsigned>(blocks < most ? blocks : most)), dim3(kWarps * 32), shared,
                   stream, a, share);
}

/// Two tiles share the loads of activations, where those are many.
template <typename F, int kN>
void launch_tokens(const GemvArgs& a, cudaStream_t stream) {
  if (a.gated) launch_tiles<F, kN, 2, true>(a, stream);
  else launch_tiles<F, kN, (kN > 1 ? 2 : 1), false>(a, stream);
}

}  // namespace

bool skinny_reads(uint32_t type, int64_t k) {
  bool fits = false;
  const bool known = with_format(type, [&]<typename F>(F) { fits = k % (F::kUnit * F::kUnitsPerBlock) == 0; });
  return known && fits;
}

constexpr int64_t kPass = kStagedTokens;

bool skinny_stages(const GemvArgs& args) {
  for (int64_t t = 0; t < args.tokens.capacity; t += kPass) {
    if (!staged_takes(tokens_from(args, t, kPass))) return false;
  }
  return true;
}

void launch_skinny(const GemvArgs& args, cudaStream_t stream) {
  for (int64_t t = 0; t < args.tokens.capacity; t += kPass) {
    const GemvArgs a = tokens_from(args, t, kPass);
    if (launch_staged(a, stream)) continue;
    with_format(a.weights.type, [&]<typename F>(F) {
      if (a.tokens.capacity <= 8) launch_tokens<F, 1>(a, stream);
      else if (a.tokens.capacity <= 16) launch_tokens<F, 2>(a, stream);
      else launch_tokens<F, 4>(a, stream);
    });
  }
}

}  // namespace weft::cuda
