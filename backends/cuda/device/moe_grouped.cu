// Experts of many tokens. Six kernels: picks in the order of their experts, cut into tiles of 48 of one expert; x as
// f16, a row a token; gate, up and activation, by tiles; what that made as f16, a row a pick; down, by tiles; the sum
// of a token's picks in their order. Grids are as large as tiles may be many: blocks past the last one leave.
//
// A product's block has a tile of picks by 16 tiles of 16 rows. The picks' activations come 256 columns at a time to a
// ring in shared memory, in the order of mma.m16n8k16 that FragmentRows has; a warp unpacks kTiles tiles of 16 rows to
// f16 in registers, as skinny.cu. Rows 0 to 7 of a tile are up's and 8 to 15 their gates, so that a lane ends with
// both. 16 rows by 256 columns by 48 picks are 96 mma, 48 / kTiles loads of 512 bytes from shared memory and, by hand,
// some 210 instructions of unpacking: full tiles are bound by mma, or by shared memory where kTiles is 1, or by what
// comes from L2: weights for each tile of picks, activations for each 256 rows. Tiles of few picks are bound by memory.
#include <algorithm>

#include "backends/cuda/device/act.cuh"
#include "backends/cuda/device/async_copy.cuh"
#include "backends/cuda/device/fragments.cuh"
#include "backends/cuda/device/halves.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/mma.cuh"
#include "backends/cuda/device/moe.h"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr int kPanel = 256;
constexpr int kPicks = static_cast<int>(kMoeTile), kGroups = kPicks / 8;  // of a tile; in eights
constexpr int kStages = 3;
constexpr unsigned kStage = kPicks * kPanel / 8;  // runs of 16 bytes

struct Tile {
  int expert, first, count;  // picks [first, first + count) of the order
};

/// Rows of f16, each in the order of columns of FragmentRows and by itself.
struct OwnRows {
  uint16_t* x;
  float* unscale;  // [rows]
};

/// In the scratch.
struct Groups {
  int* order;  // [picks]: by expert; in an expert as they come, which no result depends on
  Tile* tiles;
  int* n_tiles;
};

/// One block: counts, where each expert begins, places.
constexpr unsigned kSortThreads = 1024;
__global__ void __launch_bounds__(kSortThreads) sort_picks(const __grid_constant__ ExpertsArgs a, Groups groups) {
  extern __shared__ float4 memory[];
  auto* const places = reinterpret_cast<int*>(memory);  // [experts]: counts, then where the next one goes
  __shared__ int sums[2][kSortThreads / 32];
  const auto n = static_cast<int>(a.experts);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  begin_after_previous();
  const int64_t picks = rows_of(a.tokens) * a.picks;
  for (int e = threadIdx.x; e < n; e += kSortThreads) places[e] = 0;
  __syncthreads();
  for (int64_t p = threadIdx.x; p < picks; p += kSortThreads) {
    const int e = a.ids[p];
    if (e >= 0 && e < n) atomicAdd(places + e, 1);
  }
  __syncthreads();
  int before_picks = 0, before_tiles = 0;
  for (int first = 0; first < n; first += kSortThreads) {
    const int e = first + static_cast<int>(threadIdx.x), count = e < n ? places[e] : 0;
    const int tiles = (count + kPicks - 1) / kPicks;
    int at = count, tile = tiles;  // sums up to this thread's
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int more = __shfl_up_sync(0xFFFFFFFFu, at, step), more_tiles = __shfl_up_sync(0xFFFFFFFFu, tile, step);
      if (static_cast<int>(lane) >= step) at += more, tile += more_tiles;
    }
    if (lane == 31) sums[0][warp] = at, sums[1][warp] = tile;
    __syncthreads();
    int all = 0, all_tiles = 0;
    for (unsigned w = 0; w < kSortThreads / 32; ++w) {
      if (w == warp) at += all, tile += all_tiles;
      all += sums[0][w], all_tiles += sums[1][w];
    }
    at += before_picks - count, tile += before_tiles - tiles;
    if (e < n) {
      places[e] = at;
      for (int i = 0; i < tiles; ++i) {
        groups.tiles[tile + i] = {e, at + i * kPicks, min(count - i * kPicks, kPicks)};
      }
    }
    before_picks += all, before_tiles += all_tiles;
    __syncthreads();
  }
  if (threadIdx.x == 0) *groups.n_tiles = before_tiles;
  for (int64_t p = threadIdx.x; p < picks; p += kSortThreads) {
    const int e = a.ids[p];
    if (e >= 0 && e < n) groups.order[atomicAdd(places + e, 1)] = static_cast<int>(p);
  }
}

/// A block a row. `ids`, where given, are the rows' experts: rows of none stay as they are.
constexpr unsigned kFormThreads = 256;
__global__ void __launch_bounds__(kFormThreads) form_rows(const float* x, unsigned columns, OwnRows to, Extent tokens,
                                                          int each, const int32_t* ids, int n_experts) {
  begin_after_previous();
  const int64_t row = blockIdx.x;
  if (row >= rows_of(tokens) * each) return;
  if (ids != nullptr && (ids[row] < 0 || ids[row] >= n_experts)) return;
  const NormArgs args{.x = x, .d = columns};
  auto* at = reinterpret_cast<__half*>(to.x) + row * FragmentRows::padded(columns);
  const float unscale = write_fragments<4>(args, row, false, at, 0, 1);
  if (threadIdx.x == 0) to.unscale[row] = unscale;
}

/// 64 columns of a row of quantized weights.
template <typename F>
struct QuantizedPiece {
  using Format = F;
  static constexpr unsigned kBlock = F::kUnit * F::kUnitsPerBlock, kUnits = 64 / F::kUnit;
  typename F::Unit unit[kUnits];

  __device__ void load(const PlaneStarts& row, unsigned panel, unsigned t, unsigned k) {
#pragma unroll
    for (unsigned i = 0; i < kUnits; ++i) {
      const unsigned u = (panel * 4 + t) * kUnits + i;
      unit[i] = u * F::kUnit < k ? F::load(row, u) : typename F::Unit{};
    }
  }
  /// 32 of them, which four() gives four at a time.
  template <unsigned run>
  __device__ Columns<F> columns(unsigned t) const {
    constexpr unsigned i = run % kUnits;
    return Columns<F>(unit[i], (t * kUnits + i) % F::kUnitsPerBlock, run / kUnits);
  }
};

/// The same of f16 and bf16. Rows are runs of 8 columns.
template <typename T>
struct PlainPiece {
  struct Format {
    using Fields = FieldBytes<16>;
  };
  static constexpr unsigned kBlock = 8, kUnits = 8;
  uint4 v[8];

  __device__ void load(const PlaneStarts& row, unsigned panel, unsigned t, unsigned k) {
#pragma unroll
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned u = (panel * 4 + t) * 8 + i;
      v[i] = u * 8 < k ? row.load16(0, u * 16) : uint4{};
    }
  }
  struct Run {
    const uint4* v;
    __device__ void four(int s, uint32_t& even, uint32_t& odd) const {
      uint32_t low = word(v[s / 2], s % 2 * 2), high = word(v[s / 2], s % 2 * 2 + 1);
      if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        low = pack(__uint_as_float(low << 16), __uint_as_float(low & 0xFFFF0000u));
        high = pack(__uint_as_float(high << 16), __uint_as_float(high & 0xFFFF0000u));
      }
      even = __byte_perm(low, high, 0x5410);
      odd = __byte_perm(low, high, 0x7632);
    }
  };
  template <unsigned run>
  __device__ Run columns(unsigned) const {
    return {v + run * 4};
  }
};

struct ProductArgs {
  PlaneStarts low = {}, high = {};  // where rows 0 to 7 and rows 8 to 15 of a tile come from
  const float *bias = nullptr, *gate_bias = nullptr;
  const float* weights = nullptr;  // of picks; what a product that is not gated is multiplied by
  OwnRows x = {};
  int picks_each = 1;  // of a row of x
  Groups groups = {};
  unsigned k = 0, n = 0;  // columns; rows of an expert's matrix
  Act act = Act::none;
  float alpha = 0, limit = 0;
  float* y = nullptr;  // [picks, n]
};

__device__ __noinline__ float activated(const ProductArgs& a, float up, float gate) {
  return apply_gated<Quick>(a.act, up, gate, a.alpha, a.limit);
}

/// Tiles of 16 rows of a warp, as registers have room for: of units of 64 columns much is kept for their second half.
template <typename Piece>
constexpr int kTiles = sizeof(Piece) <= 48 && Piece::kUnits == 2 ? 2 : 1;
template <typename Piece>
constexpr int kWarps = 16 / kTiles<Piece>;  // a block has 16 tiles of rows: activations come to it once for 256

/// Blocks: x, rows; y, tiles of picks.
template <typename Piece, bool kGated>
__global__ void __launch_bounds__(kWarps<Piece> * 32, kTiles<Piece>) multiply(const __grid_constant__ ProductArgs a) {
  constexpr int kN = kTiles<Piece>, kTileRows = kGated ? 8 : 16;
  static_assert(kGroups <= kWarps<Piece>, "a warp copies eight picks");
  extern __shared__ float4 memory[];
  const auto* const ring = reinterpret_cast<const uint4*>(memory);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  begin_after_previous();
  if (static_cast<int>(blockIdx.y) >= *a.groups.n_tiles) return;
  const Tile tile = a.groups.tiles[blockIdx.y];
  const unsigned n_panels = (a.k + kPanel - 1) / kPanel;
  const int n_groups = (tile.count + 7) / 8;

  // This lane copies of eight picks one in the order of FragmentRows, past the last the last again.
  const int copied = a.groups.order[tile.first + min(static_cast<int>(warp * 8 + g), tile.count - 1)];
  const uint16_t* from = a.x.x + copied / a.picks_each * FragmentRows::padded(a.k) + t * 8;
  const uint32_t to_lane = static_cast<uint32_t>(__cvta_generic_to_shared(memory)) + (warp * 256 + lane) * 16;
  const auto copy = [&](unsigned panel) {
    if (panel < n_panels && static_cast<int>(warp) < n_groups) {
#pragma unroll
      for (unsigned s = 0; s < 8; ++s) {
        copy16_async(to_lane + (panel % kStages * kStage + s * 32) * 16, from + (panel * 8 + s) * 32);
      }
    }
    end_copy_group();
  };
#pragma unroll
  for (unsigned s = 0; s + 1 < kStages; ++s) copy(s);

  const unsigned first_row = (blockIdx.x * kWarps<Piece> + warp) * (kN * kTileRows);
  const int64_t row_blocks = a.k / Piece::kBlock;
  const auto row_of = [&](int i, unsigned r) { return min(first_row + i * kTileRows + r, a.n - 1); };
  int64_t low_at[kN], high_at[kN];  // blocks before this lane's rows
#pragma unroll
  for (int i = 0; i < kN; ++i) {
    const int64_t before = int64_t{tile.expert} * a.n;
    low_at[i] = (before + row_of(i, g)) * row_blocks;
    high_at[i] = (before + row_of(i, kGated ? g : g + 8)) * row_blocks;
  }
  Piece low[kN], high[kN];
  const auto load = [&](unsigned panel) {
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      low[i].load(moved<typename Piece::Format>(a.low, low_at[i]), panel, t, a.k);
      high[i].load(moved<typename Piece::Format>(a.high, high_at[i]), panel, t, a.k);
    }
  };
  load(0);

  float sums[kN][kGroups][4] = {};
#pragma unroll 1
  for (unsigned panel = 0; panel < n_panels; ++panel) {
    await_copy_groups<kStages - 2>();
    __syncthreads();
    copy(panel + kStages - 1);
    const uint4* const x = ring + panel % kStages * kStage + lane;
    for_each<2>([&](auto run) {
      for_each<4>([&](auto j) {
        uint32_t parts[kN][2][4];
#pragma unroll
        for (int i = 0; i < kN; ++i) {
          const auto lower = low[i].template columns<run>(t), upper = high[i].template columns<run>(t);
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            lower.four(2 * j + h, parts[i][h][0], parts[i][h][2]);
            upper.four(2 * j + h, parts[i][h][1], parts[i][h][3]);
          }
        }
#pragma unroll
        for (int n = 0; n < kGroups; ++n) {
          if (n >= n_groups) break;
          const uint4 b = x[(n * 8 + run * 4 + j) * 32];
#pragma unroll
          for (int i = 0; i < kN; ++i) {
            mma(sums[i][n], parts[i][0], b.x, b.y);
            mma(sums[i][n], parts[i][1], b.z, b.w);
          }
        }
      });
    });
    if (panel + 1 < n_panels) load(panel + 1);
  }

#pragma unroll
  for (int n = 0; n < kGroups; ++n) {
    if (n >= n_groups) break;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int at = n * 8 + static_cast<int>(t) * 2 + c;
      if (at >= tile.count) continue;
      const int pick = a.groups.order[tile.first + at];
      const float unscale = a.x.unscale[pick / a.picks_each];
      float* const y = a.y + int64_t{pick} * a.n;
      const auto biased = [&](const float* bias, unsigned row, float v) {
        return v * unscale + (bias != nullptr ? bias[int64_t{tile.expert} * a.n + row] : 0.0f);
      };
#pragma unroll
      for (int i = 0; i < kN; ++i) {
        const unsigned row = first_row + i * kTileRows + g;
        if constexpr (kGated) {
          if (row < a.n)
            y[row] = activated(a, biased(a.bias, row, sums[i][n][c]), biased(a.gate_bias, row, sums[i][n][c + 2]));
        } else {
          const float by = a.weights[pick];
          if (row < a.n) y[row] = by * biased(a.bias, row, sums[i][n][c]);
          if (row + 8 < a.n) y[row + 8] = by * biased(a.bias, row + 8, sums[i][n][c + 2]);
        }
      }
    }
  }
}

/// Blocks: x, tokens; threads, four columns.
constexpr unsigned kSumThreads = 256;
__global__ void __launch_bounds__(kSumThreads) sum_picks(const float* picked, const __grid_constant__ ExpertsArgs a) {
  begin_after_previous();
  const int64_t t = blockIdx.x, d = a.d;
  if (t >= rows_of(a.tokens)) return;
  for (int64_t c = threadIdx.x * 4; c < d; c += kSumThreads * 4) {
    float4 sum = {};
    for (int64_t p = t * a.picks; p < (t + 1) * a.picks; ++p) {
      if (a.ids[p] < 0 || a.ids[p] >= a.experts) continue;
      const float4 v = *reinterpret_cast<const float4*>(picked + p * d + c);
      sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
    }
    *reinterpret_cast<float4*>(a.y + t * d + c) = sum;
  }
}

/// f(Piece{}) of a type; false if there is none.
template <typename Call>
bool with_piece(uint32_t type, Call&& call) {
  switch (type) {
    case 1:
      call(PlainPiece<__half>{});
      return true;
    case 30:
      call(PlainPiece<__nv_bfloat16>{});
      return true;
    default:
      return with_format(type, [&]<typename F>(F) { call(QuantizedPiece<F>{}); });
  }
}

constexpr size_t kShared = size_t{kStages} * kStage * 16;

template <bool kGated>
void launch_product(uint32_t type, const void* low, const void* high, int64_t experts, ProductArgs a, int64_t tiles,
                    cudaStream_t stream) {
  with_piece(type, [&]<typename Piece>(Piece) {
    const int64_t blocks = experts * a.n * (a.k / Piece::kBlock);
    a.low = plane_starts<typename Piece::Format>(low, blocks);
    a.high = plane_starts<typename Piece::Format>(high, blocks);
    constexpr unsigned kRows = 16 * (kGated ? 8 : 16);
    const auto kernel = multiply<Piece, kGated>;
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kShared));
    launch_dependent(kernel, dim3((a.n + kRows - 1) / kRows, static_cast<unsigned>(tiles)), dim3(kWarps<Piece> * 32),
                     kShared, stream, a);
  });
}

/// Where everything is in the scratch.
struct Scratch {
  Groups groups;
  OwnRows x, interm_form;
  float* rows;  // [picks, f], then [picks, d]
  size_t bytes;

  Scratch(const ExpertsArgs& a, void* memory) {
    const int64_t tokens = a.tokens.capacity, picks = tokens * a.picks;
    auto at = reinterpret_cast<uintptr_t>(memory);
    const auto take = [&](int64_t n) {
      const uintptr_t from = at;
      at += static_cast<uintptr_t>((n + 255) / 256 * 256);
      return from;
    };
    const auto form = [&](int64_t n, int64_t columns) {
      OwnRows form{};
      form.x = reinterpret_cast<uint16_t*>(take(n * FragmentRows::padded(columns) * 2));
      form.unscale = reinterpret_cast<float*>(take(n * 4));
      return form;
    };
    groups.order = reinterpret_cast<int*>(take(picks * 4));
    groups.tiles = reinterpret_cast<Tile*>(take(moe_grouped_tiles(picks, a.experts) * sizeof(Tile)));
    groups.n_tiles = reinterpret_cast<int*>(take(4));
    x = form(tokens, a.d);
    interm_form = form(picks, a.f);
    rows = reinterpret_cast<float*>(take(picks * std::max(a.f, a.d) * 4));
    bytes = at - reinterpret_cast<uintptr_t>(memory);
  }
};

}  // namespace

bool moe_grouped_reads(uint32_t type, int64_t columns) {
  bool fits = false;
  with_piece(type, [&]<typename Piece>(Piece) {
    fits = columns > 0 && columns % Piece::kBlock == 0 && kShared <= shared_memory_limit();
  });
  return fits;
}

int64_t moe_grouped_tiles(int64_t picks, int64_t experts) { return picks / kMoeTile + std::min(picks, experts); }

size_t moe_grouped_bytes(const ExpertsArgs& args) { return Scratch(args, nullptr).bytes; }

void launch_moe_grouped(const ExpertsArgs& a, void* memory, cudaStream_t stream) {
  if (a.tokens.capacity == 0) return;
  const Scratch scratch(a, memory);
  const int64_t picks = a.tokens.capacity * a.picks, tiles = moe_grouped_tiles(picks, a.experts);
  const auto d = static_cast<unsigned>(a.d), f = static_cast<unsigned>(a.f);
  const auto n_experts = static_cast<int>(a.experts);
  launch_dependent(sort_picks, dim3(1), dim3(kSortThreads), static_cast<size_t>(a.experts) * sizeof(int), stream, a,
                   scratch.groups);
  launch_dependent(form_rows, dim3(static_cast<unsigned>(a.tokens.capacity)), dim3(kFormThreads), 0, stream, a.x, d,
                   scratch.x, a.tokens, 1, nullptr, 0);
  ProductArgs up{.bias = a.bias_up,
                 .gate_bias = a.bias_gate,
                 .x = scratch.x,
                 .picks_each = a.picks,
                 .groups = scratch.groups,
                 .k = d,
                 .n = f,
                 .act = a.act,
                 .alpha = a.alpha,
                 .limit = a.limit,
                 .y = scratch.rows};
  launch_product<true>(a.up_type, a.up, a.gate, a.experts, up, tiles, stream);
  launch_dependent(form_rows, dim3(static_cast<unsigned>(picks)), dim3(kFormThreads), 0, stream, scratch.rows, f,
                   scratch.interm_form, a.tokens, a.picks, a.ids, n_experts);
  ProductArgs down{.bias = a.bias_down,
                   .weights = a.weights,
                   .x = scratch.interm_form,
                   .picks_each = 1,
                   .groups = scratch.groups,
                   .k = f,
                   .n = d,
                   .y = scratch.rows};
  launch_product<false>(a.down_type, a.down, a.down, a.experts, down, tiles, stream);
  launch_dependent(sum_picks, dim3(static_cast<unsigned>(a.tokens.capacity)), dim3(kSumThreads), 0, stream,
                   scratch.rows, a);
}

}  // namespace weft::cuda
