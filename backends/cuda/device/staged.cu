// A block has eight warps and takes 128 rows by 256 columns at a time, or 32 rows by four times as many columns: the
// copy engine brings their weights and the activations of their columns to a ring in shared memory while what came
// before is multiplied. A warp has 32 rows and, of each lane's 64 columns of a panel of 256 (skinny.cu draws them), the
// first or the last 32. Where the rows do not fill the device their columns are cut into parts, whose blocks add up a
// share each, in order: in shared memory where a cluster of them fits, or else by way of L2. Bound by memory, q4_K
// reaches 2.4 TB/s of it for 8 tokens, 1.9 for 32: gate and up of 8B, from the end of the kernel before.
#include "backends/cuda/device/staged.h"

#include "backends/cuda/device/attention.h"
#include "backends/cuda/device/bulk.cuh"
#include "backends/cuda/device/cluster.cuh"
#include "backends/cuda/device/formats.cuh"
#include "backends/cuda/device/fragments.cuh"
#include "backends/cuda/device/halves.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/mma.cuh"
#include "backends/cuda/device/pdl.cuh"
#include "backends/cuda/device/row_runs.cuh"
#include "backends/cuda/device/staging.cuh"
#include "backends/cuda/device/tensor_map.h"

namespace weft::cuda {
namespace {

using namespace staging;

constexpr unsigned kMostMates = 8;  // blocks that share their outputs, and of a cluster on every device that has them

/// The planes of each row block as the copy engine takes them.
template <typename F>
struct Maps {
  CUtensorMap of[kMaxBlocks][F::Fields::kPlanes];
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
/// Of n blocks that have parts of the same sums, and a share each of adding them up: which shares this block, one of
/// them, is to do, its own part being written. It waits until all parts are there, since as a rule all of these blocks
/// run at a time; who waits too long leaves its share to the block that comes last. By one thread. `word`: zero, and
/// left so; arrivals, departures, shares left, in 4, 4 and 8 bits.
__device__ unsigned shares_of(unsigned* word, unsigned own, unsigned n) {
  constexpr long long kPatience = 1 << 18;  // cycles
  unsigned seen = atomicAdd(word, 1), shares = 1u << own;
  if ((seen & 15) == n - 1) {
    shares |= seen >> 8;
  } else {
    const long long begin = clock64();
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(word) : "memory");
      if ((seen & 15) != n && clock64() - begin > kPatience) {
        seen = atomicOr(word, 0x100u << own);
        if ((seen & 15) != n) shares = 0;
        break;
      }
    } while ((seen & 15) != n);
  }
  if ((atomicAdd(word, 0x10) >> 4 & 15) == n - 1) *word = 0;
  return shares;
}
#endif

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
  __shared__ float unscales[kN * 8];
  __shared__ unsigned given_shares;
  const unsigned tid = threadIdx.x, lane = tid % 32, g = lane / 4, t = lane % 4;
  // This warp's: columns of a lane, panel of those at hand, rows.
  const unsigned run = tid / 32 % kRuns, own_panel = tid / 32 / kRuns % kPanels;
  const unsigned first_row = tid / 32 / kRuns / kPanels * (kTiles * 16);
  const unsigned k = static_cast<unsigned>(a.weights.k), each = k / kPanel;  // panels of a row
  const unsigned mates = cluster_blocks(), rank = rank_in_cluster();
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
  const uint64_t policy = policy_of<kN <= 2>();  // of the weights; with more tokens it is a loss, as measured
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
                   static_cast<uint32_t>(boxes[i].row), barriers + s, policy);
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
  begin_after_previous();
  Cursor at = start;
  for (unsigned s = 0; s < R::kStages - 1 && at.task < end_task; ++s) fetch_activations(s, at), advance(at);
  const unsigned n_tokens = static_cast<unsigned>(rows_of(a.tokens));
  // Rows that passed f16's range as they were made: rare, and every block makes them again.
  const bool remakes = __any_sync(0xFFFFFFFFu, a.largest != nullptr && lane < kN * 8 && a.largest[lane] > 0);
  if (tid >= 32 && tid < 32 + n_tokens) {  // the first warp asks for stages
    const unsigned token = tid - 32;
    unscales[token] = a.largest == nullptr ? a.fragments.unscale[token] : 1 / range_scale(a.largest[token]);
  }
  const auto remake = [&](unsigned char* acts, const Cursor& from) {
    const unsigned columns = panels_of(from) * kPanel;
#pragma unroll 1
    for (unsigned i = tid * 4; i < n_tokens * columns; i += kThreadsEach * 4) {
      const unsigned token = i / columns, column = i % columns;
      const auto v =
          *reinterpret_cast<const float4*>(a.x + static_cast<size_t>(token) * k + from.panel * kPanel + column);
      const float by = range_scale(a.largest[token]);
      const FragmentRows tile{reinterpret_cast<uint16_t*>(acts + token / 8 * kPanels * kActBytes)};
      put_fragment(tile, 0, token % 8, column, {v.x * by, v.y * by, v.z * by, v.w * by});
    }
    release_to_bulk();
    __syncthreads();
  };

  float sums[kTiles][kN][4] = {};
  const auto multiply = [&](const unsigned char* stage, auto of) {
    constexpr unsigned kRun = decltype(of)::value;
    constexpr unsigned kUnits = 64 / F::kUnit;  // of a lane
    const unsigned unit = t * kUnits + kRun % kUnits, phase = unit % F::kUnitsPerBlock, part = kRun / kUnits;
    const auto columns = [&](unsigned tile, unsigned row) {
      const unsigned of_tile = kGated ? tile * kOut + first_row / kTiles : first_row + tile * 16;
      return Columns<F>(F::load(S::row(stage, of_tile + row + g, own_panel), unit), phase, part);
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
    const auto own = [&](unsigned token, unsigned row) {  // four rows
      float4 sum = {};
#pragma unroll
      for (unsigned i = 0; i < kParts; ++i) {
        const float4 x = *reinterpret_cast<const float4*>(parts + i * kPart + token * kSumStride + row);
        sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
      }
      return sum;
    };
    const unsigned group = task / splits;
    if (mates > 1) {
#pragma unroll 1
      for (unsigned item = tid; item < n_tokens * (kRows / 4); item += kThreadsEach) {
        const unsigned token = item / (kRows / 4), row = item % (kRows / 4) * 4;
        *reinterpret_cast<float4*>(parts + token * kSumStride + row) = own(token, row);  // in the first one's place
      }
      arrive_at_cluster();
      wait_for_cluster();
    }
    constexpr unsigned kShared = kStagedTokens * kRows;  // of a task: [token][row]
    const float* all = a.partial + static_cast<size_t>(group) * splits * kShared;
    const unsigned n_shares = splits <= kMostMates ? splits : 1;
    unsigned shares = 1u << rank;  // of the task's outputs that are this block's to add up
    if (splits > 1 && mates == 1) {
      float* mine = a.partial + static_cast<size_t>(task) * kShared;
#pragma unroll 1
      for (unsigned item = tid; item < n_tokens * (kRows / 4); item += kThreadsEach) {
        reinterpret_cast<float4*>(mine)[item] = own(item / (kRows / 4), item % (kRows / 4) * 4);
      }
      __threadfence();
      __syncthreads();
      if (tid == 0) {
        if (n_shares > 1) given_shares = shares_of(a.arrivals + group, task % splits, splits);
        else given_shares = atomicInc(a.arrivals + group, splits - 1) == splits - 1;
        __threadfence();
      }
      __syncthreads();
      shares = given_shares;
    }
    constexpr unsigned kRuns4 = kOut / 4, kAll = kN * 8 * kRuns4;
    const unsigned items_each = (kAll + n_shares - 1) / n_shares;
    const auto four = [&](unsigned token, unsigned of) {
      if (mates == 1 && splits == 1) return own(token, of);
      float4 sum = {};
#pragma unroll 1
      for (unsigned first = 0; first < splits; first += kMostMates) {
        float4 x[kMostMates];  // under way together
#pragma unroll
        for (unsigned i = 0; i < kMostMates; ++i) {
          if (first + i >= splits) x[i] = float4{};
          else if (mates > 1) x[i] = load_of_mate(parts + token * kSumStride + of, i);
          else x[i] = __ldcg(reinterpret_cast<const float4*>(all + (first + i) * kShared + token * kRows + of));
        }
#pragma unroll
        for (const float4& part : x) sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
      }
      return sum;
    };
    const auto add_up = [&](unsigned item) {
      const unsigned token = item / kRuns4, out = item % kRuns4 * 4;
      const unsigned of = kGated ? out / 16 * 32 + out % 16 : out;
      const int64_t row = static_cast<int64_t>(group) * kOut + out;
      if (item >= kAll || row >= n_out) return;
      float v[4] = {};  // zeros where there is no token
      if (token < n_tokens) {
        const float by = unscales[token];
        const float4 terms = run_terms(a, token, row);
        const float4 x = four(token, of), y = kGated ? four(token, of + 16) : float4{};
        v[0] = x.x * by, v[1] = x.y * by, v[2] = x.z * by, v[3] = x.w * by;
        float gate[4] = {y.x * by, y.y * by, y.z * by, y.w * by};
        store_run<kGated>(a, token, row, n_out, v, gate, terms);
      }
      if (a.made.x == nullptr) return;
      put_fragment(a.made, n_out, token, static_cast<uint32_t>(row), {v[0], v[1], v[2], v[3]});
      const float largest = fmaxf(fmaxf(fabsf(v[0]), fabsf(v[1])), fmaxf(fabsf(v[2]), fabsf(v[3])));
      if (largest > 32768.0f) atomicMax(reinterpret_cast<int*>(a.made.unscale + token), __float_as_int(largest));
    };
#pragma unroll 1
    for (; shares != 0; shares &= shares - 1) {
      const unsigned first = (__ffs(static_cast<int>(shares)) - 1) * items_each;
#pragma unroll 1
      for (unsigned i = tid; i < items_each; i += kThreadsEach) add_up(first + i);
    }
    if (mates > 1) arrive_at_cluster();  // when all have, shared memory may go
    if (mates > 1) wait_for_cluster();
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
    if (remakes) remake(memory + stage * R::kStage + R::kActs, at);
    if (kPanels == 1 || at.panel + own_panel < at.end) {
      if (run == 0) multiply(memory + stage * R::kStage, std::integral_constant<unsigned, 0>{});
      else multiply(memory + stage * R::kStage, std::integral_constant<unsigned, 1>{});
    }
    if (fetches) keep_small(ahead_stage);
    const unsigned task = at.task;
    advance(at);
    if (at.task != task) {
      // Blocks of a cluster have a task each, and their sums at one place.
      finish(task, reinterpret_cast<float*>(memory + (mates > 1 ? 0 : stage * R::kStage)));
      release_to_bulk();
    }
    if (++stage == R::kStages) stage = 0, parity ^= 1;
    ahead_stage = ahead_stage + 1 == R::kStages ? 0 : ahead_stage + 1;
  }
#endif
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

/// Whether clusters of n blocks, `groups` of them, are all resident together.
template <typename Kernel>
bool clusters_fit(Kernel kernel, int shared_bytes, int64_t groups, int64_t n) {
  if (n < 2 || n > kMostMates) return false;
  cudaLaunchAttribute attribute = cluster_of(static_cast<unsigned>(n));
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(groups * n));
  config.blockDim = dim3(kThreadsEach);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.attrs = &attribute;
  config.numAttrs = 1;
  int clusters = 0;
  if (cudaOccupancyMaxActiveClusters(&clusters, kernel, &config) == cudaSuccess) return clusters >= groups;
  cudaGetLastError();
  return false;
}

/// Asks only, without `launches`.
template <typename F, int kN, bool kGated>
bool launch_tiles(const GemvArgs& a, bool launches, cudaStream_t stream) {
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
  const unsigned cluster = clusters_fit(kernel, kShared, groups, splits) ? static_cast<unsigned>(splits) : 1;
  const int64_t tasks = groups * splits;
  const int64_t blocks = tasks < most ? tasks : most;
  if (tasks * (blocks + 1) > UINT32_MAX || (a.made.x != nullptr && n_out % kPanel != 0)) return false;
  if (!launches) return true;
  GemvArgs args = a;
  args.aligned = stores_whole_runs(a, n_out);
  launch_dependent(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreadsEach), LaunchShared{kShared, -1, cluster},
                   stream, args, maps, static_cast<unsigned>(tasks), static_cast<unsigned>(splits));
  return true;
}

}  // namespace

size_t staged_scratch() {
  return static_cast<size_t>(sm_count() * kResident) * kStagedTokens * kMostRows * sizeof(float);
}

namespace {

bool launch(const GemvArgs& a, bool launches, cudaStream_t stream) {
  if (capability_major() < 9 || a.weights.k % kPanel != 0) return false;
  if (a.fragments.x == nullptr || a.tokens.capacity > kStagedTokens) return false;
  bool launched = false;
  const auto with_tiles = [&]<typename F, int kN>(F, std::integral_constant<int, kN>) {
    launched =
        a.gated ? launch_tiles<F, kN, true>(a, launches, stream) : launch_tiles<F, kN, false>(a, launches, stream);
  };
  with_format(a.weights.type, [&]<typename F>(F format) {
    if (a.tokens.capacity <= 8) with_tiles(format, std::integral_constant<int, 1>{});
    else if (a.tokens.capacity <= 16) with_tiles(format, std::integral_constant<int, 2>{});
    else with_tiles(format, std::integral_constant<int, 4>{});
  });
  return launched;
}

}  // namespace

bool launch_staged(const GemvArgs& args, cudaStream_t stream) { return launch(args, true, stream); }
bool staged_takes(const GemvArgs& args) { return launch(args, false, nullptr); }

}  // namespace weft::cuda
