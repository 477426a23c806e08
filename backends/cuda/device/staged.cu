// A block has eight warps and takes 128 rows by 256 columns at a time, or 32 rows by four times as many columns: the
// copy engine brings their weights and the activations of their columns to a ring in shared memory while what came
// before is multiplied. A warp has 32 rows and, of each lane's 64 columns of a panel of 256 (skinny.cu draws them), the
// first or the last 32. Where the rows do not fill the device their columns are cut into parts, and the block that is
// last adds the parts up, in order. Bound by memory, q4_K reaches 1.9 TB/s of it for 8 tokens at 3.4 instructions a
// weight, 1.5 for 32 at 4.2: gate and up of 8B.
#include "backends/cuda/device/staged.h"

#include "backends/cuda/device/attention.h"
#include "backends/cuda/device/bulk.cuh"
#include "backends/cuda/device/formats.cuh"
#include "backends/cuda/device/halves.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/mma.cuh"
#include "backends/cuda/device/pdl.cuh"
#include "backends/cuda/device/row_runs.cuh"
#include "backends/cuda/device/tensor_map.h"

namespace weft::cuda {
namespace {

constexpr unsigned kWarps = 8, kThreadsEach = kWarps * 32;  // of a block
constexpr unsigned kRuns = 2;                               // of 32 columns, a lane and panel: a warp has one
constexpr unsigned kTiles = 2;                              // of 16 rows, a warp; gated: up rows and their gate rows
constexpr unsigned kPanel = 256;                            // columns
constexpr unsigned kMostRows = 128;
constexpr int kResident = 2;                    // blocks of an SM
constexpr unsigned kSharedOfSm = 216 << 10;     // what their rings may take
constexpr unsigned kActBytes = kPanel * 8 * 2;  // a panel of 8 tokens

/// How a block's warps share out rows and panels: kRowWarps pairs of them have 32 rows each.
template <int kRowWarps>
struct Shape {
  static constexpr unsigned kRows = kRowWarps * kTiles * 16;
  static constexpr unsigned kPanels = kWarps / kRuns / kRowWarps;  // at a time
  /// Of a token's sums in shared memory: no two of a store are in one bank.
  static constexpr unsigned kSumStride = kRows + 4;
};
/// Where there are few activations they are read for few rows at a time, or else many blocks would have parts.
template <int kN, bool kGated>
constexpr int kRowWarps = kN == 1 && !kGated ? 1 : 4;

/// How kRows rows of kPanels panels stand in shared memory: planes one after the other, rows without gaps.
template <typename F, unsigned kRows, unsigned kPanels>
struct Staged {
  static constexpr int kPlanes = F::Fields::kPlanes;
  /// Of a row of a panel, in a plane.
  static constexpr unsigned bytes(int plane) {
    return F::Fields::of(plane) * static_cast<int>(kPanel) / (F::kUnit * F::kUnitsPerBlock);
  }
  static constexpr bool is_bulk(int plane) { return bytes(plane) % 16 == 0; }
  static constexpr unsigned stride(int plane) { return kPanels * bytes(plane); }
  static constexpr unsigned begin(int plane) {
    unsigned at = 0;
    for (int i = 0; i < plane; ++i) at += kRows * stride(i);
    return at;
  }
  static constexpr unsigned kBytes = begin(kPlanes);
  static_assert(kBytes % 128 == 0);
  /// That the copy engine brings at a time: kPanels panels, whatever the task has left.
  static constexpr unsigned bulk_bytes() {
    unsigned n = 0;
    for (int i = 0; i < kPlanes; ++i) n += is_bulk(i) ? kRows * stride(i) : 0;
    return n;
  }
  /// The plane that is too narrow for it, or -1.
  static constexpr int small_plane() {
    for (int i = 0; i < kPlanes; ++i) {
      if (!is_bulk(i)) return i;
    }
    return -1;
  }

  const unsigned char* stage;
  unsigned row, panel;

  template <typename T>
  __device__ T read(int plane, unsigned offset) const {
    return *reinterpret_cast<const T*>(stage + begin(plane) + row * stride(plane) + panel * bytes(plane) + offset);
  }
  __device__ uint4 load16(int plane, unsigned offset) const { return read<uint4>(plane, offset); }
  __device__ uint2 load8(int plane, unsigned offset) const { return read<uint2>(plane, offset); }
  __device__ uint32_t load4(int plane, unsigned offset) const { return read<uint32_t>(plane, offset); }
  __device__ uint16_t load2(int plane, unsigned offset) const { return read<uint16_t>(plane, offset); }
  __device__ uint8_t load1(int plane, unsigned offset) const { return read<uint8_t>(plane, offset); }
};

template <typename F, int kN, bool kGated>
struct Ring {
  using Split = Shape<kRowWarps<kN, kGated>>;
  using Rows = Staged<F, Split::kRows, Split::kPanels>;
  static constexpr unsigned kActs = (Rows::kBytes + 127) / 128 * 128;  // where a stage's activations begin
  static constexpr unsigned kStage = kActs + Split::kPanels * kN * kActBytes;
  static constexpr unsigned kFit = kSharedOfSm / kResident / kStage, kStages = kFit < 2 ? 2 : kFit > 4 ? 4 : kFit;
  static_assert(kWarps / kRowWarps<kN, kGated> * kN * 8 * Split::kSumStride * sizeof(float) <= kStage);
};

/// The planes of each row block as the copy engine takes them.
template <typename F>
struct Maps {
  CUtensorMap of[kMaxBlocks][F::Fields::kPlanes];
};

/// kN: tiles of 8 tokens. A task is a part, of `splits`, of the columns of kRows rows; blocks have runs of tasks.
template <typename F, int kN, bool kGated>
__global__ void __launch_bounds__(kThreadsEach, kResident)
    staged(const __grid_constant__ GemvArgs a, const __grid_constant__ Maps<F> maps, unsigned n_tasks,
           unsigned splits) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  using R = Ring<F, kN, kGated>;
  using S = typename R::Rows;
  constexpr unsigned kRows = R::Split::kRows, kPanels = R::Split::kPanels, kSumStride = R::Split::kSumStride;
  extern __shared__ __align__(128) unsigned char memory[];  // the ring; of each stage weights, then activations
  __shared__ uint64_t barriers[R::kStages];                 // of the stages
  __shared__ bool is_last;
  const unsigned tid = threadIdx.x, lane = tid % 32, g = lane / 4, t = lane % 4;
  // This warp's: columns of a lane, panel of those at hand, rows.
  const unsigned run = tid / 32 % kRuns, own_panel = tid / 32 / kRuns % kPanels;
  const unsigned first_row = tid / 32 / kRuns / kPanels * (kTiles * 16);
  const unsigned k = static_cast<unsigned>(a.weights.k), each = k / kPanel;  // panels of a row
  const int64_t n_rows = a.weights.begin[a.weights.n_blocks], n_out = kGated ? n_rows / 2 : n_rows;
  constexpr unsigned kOut = kGated ? kRows / 2 : kRows;  // outputs of a task
  const auto first_task = [&](unsigned block) { return block * n_tasks / gridDim.x; };
  const auto first_panel = [&](unsigned split) { return split * each / splits; };

  /// A place in the block's tasks: some panels of one.
  struct Cursor {
    unsigned task, panel, end;
  };
  const unsigned end_task = first_task(blockIdx.x + 1);
  const auto enter = [&](unsigned task) -> Cursor {
    return {task, first_panel(task % splits), first_panel(task % splits + 1)};
  };
  const auto panels_of = [](const Cursor& at) { return at.end - at.panel < kPanels ? at.end - at.panel : kPanels; };
  const auto advance = [&](Cursor& at) {
    at.panel += kPanels;
    if (at.panel >= at.end) at = enter(at.task + 1);
  };
  Cursor ahead = enter(first_task(blockIdx.x));  // what is asked for next
  // Up rows stand before their gate rows.
  constexpr unsigned kBoxes = kGated ? 2 : 1;
  Place boxes[kBoxes];  // where the rows of the task begin
  PlaneStarts starts;   // of a row each of kRows threads
  const auto enter_rows = [&] {
    if (ahead.task >= end_task) return;
    const int64_t first_out = static_cast<int64_t>(ahead.task / splits) * kOut;
#pragma unroll
    for (unsigned i = 0; i < kBoxes; ++i) boxes[i] = place_of(a.weights, first_out + i * n_out);
    if (S::small_plane() < 0 || tid >= kRows) return;
    const int64_t out = first_out + tid % kOut, row = (out < n_out ? out : n_out - 1) + tid / kOut * n_out;
    const Place place = place_of(a.weights, row);
    const int64_t blocks = k / (F::kUnit * F::kUnitsPerBlock);
    const int64_t rows = a.weights.begin[place.block + 1] - a.weights.begin[place.block];
    starts = moved<F>(plane_starts<F>(a.weights.block[place.block], rows * blocks), place.row * blocks);
  };
  enter_rows();
  constexpr int kSmall = S::small_plane();
  using Small = std::conditional_t<kSmall >= 0 && S::bytes(kSmall < 0 ? 0 : kSmall) == 8, uint2, uint16_t>;
  static_assert(kSmall < 0 || S::bytes(kSmall < 0 ? 0 : kSmall) == sizeof(Small));
  Small small[kPanels] = {};  // of the plane that the copy engine cannot bring, for the stage asked for last
  const auto fetch_weights = [&](unsigned s) {
    const unsigned n = panels_of(ahead);
    if (tid == 0) expect_bytes(barriers + s, S::bulk_bytes() + n * kN * kActBytes);
    for_each<S::kPlanes>([&](auto plane) {
      constexpr unsigned kBytes = S::bytes(plane);
      unsigned char* to = memory + s * R::kStage + S::begin(plane);
      if constexpr (S::is_bulk(plane)) {
        if (tid != 0) return;
#pragma unroll
        for (unsigned i = 0; i < kBoxes; ++i) {
          copy_box(to + i * kOut * S::stride(plane), &maps.of[boxes[i].block][plane], ahead.panel * (kBytes / 4),
                   static_cast<uint32_t>(boxes[i].row), barriers + s);
        }
      } else if (tid < kRows) {  // too few bytes for the engine
        const auto* from = reinterpret_cast<const Small*>(starts.at[plane] + ahead.panel * kBytes);
#pragma unroll
        for (unsigned p = 0; p < kPanels; ++p) {
          if (p < n) small[p] = __ldg(from + p);
        }
      }
    });
  };
  const auto keep_small = [&](unsigned s) {
    if constexpr (kSmall >= 0) {
      if (tid >= kRows) return;
      auto* to = reinterpret_cast<Small*>(memory + s * R::kStage + S::begin(kSmall) + tid * S::stride(kSmall));
#pragma unroll
      for (unsigned p = 0; p < kPanels; ++p) to[p] = small[p];
    }
  };
  const auto fetch_activations = [&](unsigned s, const Cursor& from) {
    if (tid != 0) return;
    const unsigned n = panels_of(from);
    const auto* x = reinterpret_cast<const unsigned char*>(a.fragments.x) + from.panel * kActBytes;
    unsigned char* to = memory + s * R::kStage + R::kActs;
#pragma unroll
    for (unsigned i = 0; i < kN; ++i) {  // a tile of 8 tokens each
      copy_bulk(to + i * kPanels * kActBytes, x + static_cast<size_t>(i) * k * 16, n * kActBytes, barriers + s);
    }
  };
  const auto step_ahead = [&] {
    const unsigned task = ahead.task;
    advance(ahead);
    if (ahead.task != task) enter_rows();
  };

  let_next_start();
  if (tid == 0) {
    for (uint64_t& barrier : barriers) init_barrier(&barrier);
    prefetch_map(&maps);
  }
  __syncthreads();
  const Cursor start = ahead;
  for (unsigned s = 0; s < R::kStages - 1 && ahead.task < end_task; ++s) {
    fetch_weights(s);
    keep_small(s);
    step_ahead();
  }
  wait_for_previous();
  Cursor at = start;
  for (unsigned s = 0; s < R::kStages - 1 && at.task < end_task; ++s) fetch_activations(s, at), advance(at);
  const unsigned n_tokens = static_cast<unsigned>(rows_of(a.tokens));

  float sums[kTiles][kN][4] = {};
  const auto multiply = [&](const unsigned char* stage, auto of) {
    constexpr unsigned kRun = decltype(of)::value;
    constexpr unsigned kUnits = 64 / F::kUnit;  // of a lane
    const unsigned unit = t * kUnits + kRun % kUnits, phase = unit % F::kUnitsPerBlock, part = kRun / kUnits;
    const auto columns = [&](unsigned tile, unsigned row) {
      const unsigned of_tile = kGated ? tile * kOut + first_row / kTiles : first_row + tile * 16;
      return Columns<F>(F::load(S{stage, of_tile + row + g, own_panel}, unit), phase, part);
    };
    const Columns<F> rows[kTiles][2] = {{columns(0, 0), columns(0, 8)}, {columns(1, 0), columns(1, 8)}};
    const uint4* x = reinterpret_cast<const uint4*>(stage + R::kActs + own_panel * kActBytes) + kRun * 4 * 32 + lane;
#pragma unroll
    for (int j = 0; j < 4; ++j) {  // 8 columns of each lane
      uint4 b[kN];
#pragma unroll
      for (int n = 0; n < kN; ++n) b[n] = x[n * (kPanels * kActBytes / 16) + j * 32];
#pragma unroll
      for (unsigned i = 0; i < kTiles; ++i) {
#pragma unroll
        for (int s = 0; s < 2; ++s) {
          uint32_t w[4];
          rows[i][0].four(2 * j + s, w[0], w[2]);
          rows[i][1].four(2 * j + s, w[1], w[3]);
#pragma unroll
          for (int n = 0; n < kN; ++n) mma(sums[i][n], w, s == 0 ? b[n].x : b[n].z, s == 0 ? b[n].y : b[n].w);
        }
      }
    }
  };

  // A task's sums, by way of a stage that all warps are done with.
  const auto finish = [&](unsigned task, float* parts) {
    constexpr unsigned kParts = kRuns * kPanels, kPart = kN * 8 * kSumStride;
    __syncthreads();
#pragma unroll
    for (unsigned i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        float* to = parts + (own_panel * kRuns + run) * kPart + (n * 8 + 2 * t) * kSumStride + first_row + i * 16 + g;
        to[0] = sums[i][n][0], to[kSumStride] = sums[i][n][1];
        to[8] = sums[i][n][2], to[kSumStride + 8] = sums[i][n][3];
#pragma unroll
        for (float& sum : sums[i][n]) sum = 0;
      }
    }
    __syncthreads();
    const auto sum_of = [](const float* from, unsigned n, unsigned stride, auto load) {
      float4 sum = {};
#pragma unroll 8
      for (unsigned i = 0; i < n; ++i) {
        const float4 x = load(reinterpret_cast<const float4*>(from + i * stride));
        sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
      }
      return sum;
    };
    const auto own = [&](unsigned token, unsigned row) {  // four rows
      return sum_of(parts + token * kSumStride + row, kParts, kPart, [](const float4* x) { return *x; });
    };
    const unsigned group = task / splits;
    constexpr unsigned kShared = kStagedTokens * kRows;  // of a task: [token][row]
    const float* all = a.partial + static_cast<size_t>(group) * splits * kShared;
    if (splits > 1) {
      float* mine = a.partial + static_cast<size_t>(task) * kShared;
      for (unsigned item = tid; item < n_tokens * (kRows / 4); item += kThreadsEach) {
        reinterpret_cast<float4*>(mine)[item] = own(item / (kRows / 4), item % (kRows / 4) * 4);
      }
      __threadfence();
      __syncthreads();
      if (tid == 0) {
        is_last = atomicInc(a.arrivals + group, splits - 1) == splits - 1;
        __threadfence();
      }
      __syncthreads();
      if (!is_last) return;
    }
    constexpr unsigned kRuns4 = kOut / 4, kItems = (kN * 8 * kRuns4 + kThreadsEach - 1) / kThreadsEach;
    RowRun items[kItems];
#pragma unroll
    for (unsigned i = 0; i < kItems; ++i) {
      const unsigned item = i * kThreadsEach + tid, out = item % kRuns4 * 4;
      const unsigned row = kGated ? out / 16 * 32 + out % 16 : out;
      RowRun& to = items[i];
      to.token = item / kRuns4;
      to.row = to.token < n_tokens ? static_cast<int64_t>(group) * kOut + out : n_out;
      const auto four = [&](unsigned of) {
        if (to.row >= n_out) return float4{};
        if (splits == 1) return own(to.token, of);
        return sum_of(all + to.token * kRows + of, splits, kShared, [](const float4* x) { return __ldcg(x); });
      };
      const float4 v = four(row), gate = kGated ? four(row + 16) : float4{};
      to.set(v, gate, to.row < n_out ? a.fragments.unscale[to.token] : 0.0f);
    }
    store_runs<kGated>(a, items);
  };

  unsigned stage = 0, ahead_stage = R::kStages - 1, parity = 0;
  at = start;
  while (at.task < end_task) {
    __syncthreads();  // all are done with the stage before this one
    const bool fetches = ahead.task < end_task;
    if (fetches) {
      fetch_weights(ahead_stage);
      fetch_activations(ahead_stage, ahead);
      step_ahead();
    }
    wait_bytes(barriers + stage, parity);
    if (kPanels == 1 || at.panel + own_panel < at.end) {
      if (run == 0) multiply(memory + stage * R::kStage, std::integral_constant<unsigned, 0>{});
      else multiply(memory + stage * R::kStage, std::integral_constant<unsigned, 1>{});
    }
    if (fetches) keep_small(ahead_stage);
    const unsigned task = at.task;
    advance(at);
    if (at.task != task) {
      finish(task, reinterpret_cast<float*>(memory + stage * R::kStage));
      release_to_bulk();
    }
    if (++stage == R::kStages) stage = 0, parity ^= 1;
    ahead_stage = ahead_stage + 1 == R::kStages ? 0 : ahead_stage + 1;
  }
#endif
}

int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&value, which, device);
  return value;
}

template <typename F, typename S>
bool make_maps(const GemvWeights& w, unsigned box_rows, Maps<F>& maps) {
  const int64_t row_blocks = w.k / (F::kUnit * F::kUnitsPerBlock);
  for (int b = 0; b < w.n_blocks; ++b) {
    const int64_t rows = w.begin[b + 1] - w.begin[b];
    const PlaneStarts starts = plane_starts<F>(w.block[b], rows * row_blocks);
    for (int p = 0; p < S::kPlanes; ++p) {
      if (S::is_bulk(p) &&
          !make_tensor_map(maps.of[b][p], starts.at[p], row_blocks * F::Fields::of(p), rows, S::stride(p), box_rows)) {
        return false;
      }
    }
  }
  return true;
}

/// Whether no task's rows, or its gate rows, are in two blocks.
bool blocks_hold_tasks(const GemvWeights& w, int64_t n_out, int64_t task_rows) {
  for (int b = 1; b < w.n_blocks; ++b) {
    if (w.begin[b] % n_out % task_rows != 0) return false;
  }
  return true;
}

template <typename F, int kN, bool kGated>
bool launch_tiles(const GemvArgs& a, cudaStream_t stream) {
  using R = Ring<F, kN, kGated>;
  constexpr int kShared = R::kStages * R::kStage;
  constexpr int64_t kOut = R::Split::kRows / (kGated ? 2 : 1);
  const int64_t n_out = a.weights.rows() / (kGated ? 2 : 1), groups = (n_out + kOut - 1) / kOut;
  Maps<F> maps{};
  if (!blocks_hold_tasks(a.weights, n_out, kOut) || !make_maps<F, typename R::Rows>(a.weights, kOut, maps))
    return false;
  const auto kernel = staged<F, kN, kGated>;
  cudaFuncAttributes compiled{};
  if (cudaFuncGetAttributes(&compiled, kernel) != cudaSuccess || compiled.ptxVersion < 90) return false;  // empty
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  int resident = 0;
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, kThreadsEach, kShared);
  if (resident < 1) return false;
  const int64_t most = int64_t{sm_count()} * (resident < kResident ? resident : kResident);
  const int64_t steps = (a.weights.k / kPanel + R::Split::kPanels - 1) / R::Split::kPanels, fit = most / groups;
  const int64_t splits = groups > kArrivals || fit < 1 ? 1 : fit < steps ? fit : steps;
  const int64_t tasks = groups * splits;
  const int64_t blocks = tasks < most ? tasks : most;
  if (tasks * (blocks + 1) > UINT32_MAX) return false;
  launch_dependent(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreadsEach), kShared, stream, a, maps,
                   static_cast<unsigned>(tasks), static_cast<unsigned>(splits));
  return true;
}

}  // namespace

size_t staged_scratch() {
  return static_cast<size_t>(sm_count() * kResident) * kStagedTokens * kMostRows * sizeof(float);
}

bool launch_staged(const GemvArgs& a, cudaStream_t stream) {
  if (attribute(cudaDevAttrComputeCapabilityMajor) < 9 || a.weights.k % kPanel != 0) return false;
  if (a.fragments.x == nullptr || a.tokens.capacity > kStagedTokens) return false;
  bool launched = false;
  const auto launch = [&]<typename F, int kN>(F, std::integral_constant<int, kN>) {
    launched = a.gated ? launch_tiles<F, kN, true>(a, stream) : launch_tiles<F, kN, false>(a, stream);
  };
  with_format(a.weights.type, [&]<typename F>(F format) {
    if (a.tokens.capacity <= 8) launch(format, std::integral_constant<int, 1>{});
    else if (a.tokens.capacity <= 16) launch(format, std::integral_constant<int, 2>{});
    else launch(format, std::integral_constant<int, 4>{});
  });
  return launched;
}

}  // namespace weft::cuda
