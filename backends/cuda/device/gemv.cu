// A warp takes one or two rows at a time (or an up row and its gate row), its lanes unit after unit of 32 or 64
// columns. Bound by memory: 8-bit products need one to two instructions a weight.
#include "backends/cuda/device/gemv.h"

#include <cuda_bf16.h>

#include "backends/cuda/device/act.cuh"
#include "backends/cuda/device/formats.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

constexpr int kWarps = 8;  // a block

/// A pass is made for M vectors; those past the last are the last again, and nobody keeps their sums.
template <int M>
__device__ int vector_of(const GemvArgs& a, int t) {
  const int last = static_cast<int>(a.tokens.capacity) - 1;
  return M == 1 || t < last ? t : last;
}

struct Place {
  int block = 0;
  int64_t row = 0;  // in the block
};
__device__ Place place_of(const GemvWeights& w, int64_t row) {
  Place place{0, row};
#pragma unroll
  for (int i = 1; i < kMaxBlocks; ++i) {
    if (i < w.n_blocks && row >= w.begin[i]) place = {i, row - w.begin[i]};
  }
  return place;
}

/// Dot products of quantized rows with 8-bit activations.
template <typename F>
struct Quantized {
  using Unit = typename F::Unit;
  static constexpr int kUnit = F::kUnit, kGroups = F::kUnit / F::kGroup;

  PlaneStarts starts;
  int64_t first;  // unit of the row

  __device__ void enter(const GemvWeights& w, int64_t row) {
    const Place place = place_of(w, row);
    const int64_t rows = w.begin[place.block + 1] - w.begin[place.block];
    constexpr int64_t kBlock = F::kUnit * F::kUnitsPerBlock;
    starts = F::starts(w.block[place.block], rows * (w.k / kBlock));
    first = place.row * (w.k / F::kUnit);
  }
  __device__ Unit load(int64_t u) const { return F::load(starts, first + u); }

  template <int M>
  __device__ static void add(const Unit& unit, int u, const GemvArgs& a, float (&sums)[M]) {
    int q[kUnit / 4];
    float scale[kGroups], shift[kGroups];
    // A warp's units step by 32, a multiple of a block's: the phase is the lane's, always.
    F::codes(unit, static_cast<int>(threadIdx.x) % F::kUnitsPerBlock, q, scale, shift);
    const int stride = static_cast<int>(a.q8.stride);
#pragma unroll
    for (int t = 0; t < M; ++t) {
      const int token = vector_of<M>(a, t);
      const auto run = [&](int r) {
        const int c = column_of<F>(u, r);
        const int4 x =
            *reinterpret_cast<const int4*>(a.q8.q + token * stride + c / 16 % 4 * (stride / 4) + c / 64 * 16);
        const int* w = q + r * 4;
        return __dp4a(w[0], x.x, __dp4a(w[1], x.y, __dp4a(w[2], x.z, __dp4a(w[3], x.w, 0))));
      };
      const auto group_of = [&](int r) { return a.q8.groups[token * (stride / 32) + column_of<F>(u, r) / 32]; };
      if constexpr (F::kGroup == 32) {
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
          const Q8Group group = group_of(2 * g);
          sums[t] += group.scale * (scale[g] * static_cast<float>(run(2 * g) + run(2 * g + 1)) +
                                    shift[g] * static_cast<float>(group.sums[0] + group.sums[1]));
        }
      } else {
#pragma unroll
        for (int r = 0; r < kUnit / 16; ++r) {
          const Q8Group group = group_of(r);
          const int sum = column_of<F>(u, r) % 32 == 0 ? group.sums[0] : group.sums[1];
          sums[t] += group.scale * (scale[r] * static_cast<float>(run(r)) + shift[r] * static_cast<float>(sum));
        }
      }
    }
  }
};

/// Dot products of plain rows with f32 activations: a unit is 8 elements.
template <typename T>
struct Plain {
  struct Unit {
    uint4 v[sizeof(T) / 2];
  };
  static constexpr int kUnit = 8;

  const T* row;

  __device__ void enter(const GemvWeights& w, int64_t at) {
    const Place place = place_of(w, at);
    row = static_cast<const T*>(w.block[place.block]) + place.row * w.k;
  }
  __device__ Unit load(int64_t u) const {
    Unit unit;
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(T) / 2); ++i) unit.v[i] = load16(row + u * 8 + i * (16 / sizeof(T)));
    return unit;
  }
  __device__ static float element(const Unit& unit, int i) {
    if constexpr (sizeof(T) == 4) {
      return __uint_as_float(word(unit.v[i / 4], i % 4));
    } else {
      const uint32_t bits = word(unit.v[0], i / 2) >> (i % 2 * 16);
      if constexpr (std::is_same_v<T, __half>) return half_bits(bits);
      else return __uint_as_float(bits << 16);
    }
  }

  template <int M>
  __device__ static void add(const Unit& unit, int u, const GemvArgs& a, float (&sums)[M]) {
#pragma unroll
    for (int t = 0; t < M; ++t) {
      const auto* x = reinterpret_cast<const float4*>(a.x + vector_of<M>(a, t) * a.weights.k + u * 8);
      const float4 x0 = x[0], x1 = x[1];
      const float xs[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
#pragma unroll
      for (int i = 0; i < 8; ++i) sums[t] += element(unit, i) * xs[i];
    }
  }
};

/// What a warp works on at a time: 32 units of each of its rows, a unit a lane.
template <typename Row, int kRows>
struct Chunk {
  typename Row::Unit unit[kRows];
};

/// As many chunks as fit in registers beside the sums.
template <typename Row, int M, int kRows>
constexpr int chunks_ahead() {
  constexpr int kFit = 192 / static_cast<int>(sizeof(Chunk<Row, kRows>)), kMost = M == 1 ? kFit : kFit / 2;
  return kMost < 1 ? 1 : kMost > 4 ? 4 : kMost;
}

/// Tasks of a warp are kRows rows each (neighbours, or an up row and its gate row), kept coming by a grid that fills
/// the device once: chunk after chunk, task after task, the loads of kAhead chunks are under way.
template <typename Row, int M, int kRows, bool kGated>
__global__ void __launch_bounds__(kWarps * 32, 2) gemv(GemvArgs a) {
  constexpr int kAhead = chunks_ahead<Row, M, kRows>();
  const int lane = threadIdx.x % 32;
  const int64_t n_warps = static_cast<int64_t>(gridDim.x) * kWarps;
  const int64_t n_rows = a.weights.begin[a.weights.n_blocks], n_out = kGated ? n_rows / 2 : n_rows;
  const int64_t n_tasks = kGated ? n_out : (n_rows + kRows - 1) / kRows;
  const int n_units = static_cast<int>(a.weights.k / Row::kUnit), n_chunks = (n_units + 31) / 32;
  const auto row_of = [&](int64_t task, int r) {
    if (kGated) return r == 0 ? task : task + n_out;
    const int64_t row = task * kRows + r;
    return row < n_rows ? row : n_rows - 1;  // the last task may have a row twice
  };

  // The chunk to load next.
  int64_t task = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  int chunk = 0;
  Row rows[kRows];
  const auto enter = [&] {
    if (task >= n_tasks) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r) rows[r].enter(a.weights, row_of(task, r));
  };
  Chunk<Row, kRows> ahead[kAhead];
  const auto fetch = [&](Chunk<Row, kRows>& to) {
    const int u = chunk * 32 + lane;
    if (task < n_tasks && u < n_units) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) to.unit[r] = rows[r].load(u);
    }
    if (++chunk == n_chunks) {
      chunk = 0;
      task += n_warps;
      enter();
    }
  };
  let_next_start();
  int64_t done = task;  // the task whose sums grow
  int done_chunk = 0;
  enter();
#pragma unroll
  for (int i = 0; i < kAhead; ++i) fetch(ahead[i]);  // weights depend on nothing
  wait_for_previous();
  const int64_t n_tokens = rows_of(a.tokens);

  float sums[kRows][M] = {};
  while (done < n_tasks) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (done >= n_tasks) break;
      const int u = done_chunk * 32 + lane;
      if (u < n_units) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) Row::template add<M>(ahead[i].unit[r], u, a, sums[r]);
      }
      fetch(ahead[i]);
      if (++done_chunk < n_chunks) continue;
      done_chunk = 0;
#pragma unroll
      for (int t = 0; t < M; ++t) {
        float v[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          v[r] = warp_sum(sums[r][t]);
          sums[r][t] = 0;
        }
        if (t >= n_tokens || lane >= (kGated ? 1 : kRows)) continue;
        const auto biased = [&](int r, float x) {
          const int64_t row = row_of(done, r);
          const Place at = place_of(a.weights, row);
          const float* bias = a.weights.bias[at.block];
          return bias != nullptr ? x + bias[at.row] : x;
        };
        const int64_t row = row_of(done, lane);
        float y;
        if constexpr (kGated) {
          y = apply_gated(a.act, biased(0, v[0]), biased(1, v[kRows - 1]), a.alpha, a.limit);
        } else {
          y = apply(a.act, biased(lane, lane == 0 ? v[0] : v[kRows - 1]));
        }
        a.y[t * a.y_stride + row] = a.adds ? y + residual_of(a.residual, t, row, a.y_stride) : y;
      }
      done += n_warps;
    }
  }
}

int sm_count() {
  int device = 0, sms = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
  return sms;
}

template <typename Row, int M, int kRows, bool kGated>
void launch_grid(const GemvArgs& a, int64_t tasks, cudaStream_t stream) {
  static const int resident = [] {
    int blocks = 1;
    cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, gemv<Row, M, kRows, kGated>, kWarps * 32, 0);
    return blocks < 1 ? 1 : blocks;
  }();
  const int64_t blocks = (tasks + kWarps - 1) / kWarps, most = static_cast<int64_t>(sm_count()) * resident;
  launch_dependent(gemv<Row, M, kRows, kGated>, dim3(static_cast<unsigned>(blocks < most ? blocks : most)),
                   dim3(kWarps * 32), 0, stream, a);
}

/// Two rows a warp share the activations' loads, if there are rows enough to keep every warp busy.
template <typename Row, int M>
void launch_rows(const GemvArgs& a, cudaStream_t stream) {
  const int64_t rows = a.weights.rows();
  if (a.gated) launch_grid<Row, M, 2, true>(a, rows / 2, stream);
  else if (rows >= static_cast<int64_t>(sm_count()) * 2 * kWarps * 2)
    launch_grid<Row, M, 2, false>(a, (rows + 1) / 2, stream);
  else launch_grid<Row, M, 1, false>(a, rows, stream);
}

template <typename Row>
void launch_tokens(GemvArgs a, cudaStream_t stream) {
  const int64_t n = a.tokens.capacity;
  if (n <= 1) launch_rows<Row, 1>(a, stream);
  else if (n <= 4) launch_rows<Row, 4>(a, stream);
  else launch_rows<Row, 8>(a, stream);
}

template <typename F>
bool with_format(uint32_t type, F&& f) {
  switch (type) {
    case 2:
      f(FormatQ4_0{});
      return true;
    case 3:
      f(FormatQ4_1{});
      return true;
    case 6:
      f(FormatQ5_0{});
      return true;
    case 7:
      f(FormatQ5_1{});
      return true;
    case 8:
      f(FormatQ8_0{});
      return true;
    case 12:
      f(FormatQ4_K{});
      return true;
    case 13:
      f(FormatQ5_K{});
      return true;
    case 14:
      f(FormatQ6_K{});
      return true;
    case 20:
      f(FormatIQ4_NL{});
      return true;
    case 23:
      f(FormatIQ4_XS{});
      return true;
    case 39:
      f(FormatMXFP4{});
      return true;
    default:
      return false;
  }
}

template <typename F>
__global__ void expand(const void* weight, int64_t n_blocks, int64_t first, int64_t n, int64_t units_per_row, int64_t k,
                       __half* out) {
  constexpr int kGroups = F::kUnit / F::kGroup;
  const PlaneStarts starts = F::starts(weight, n_blocks);
  for (int64_t i = thread_index(); i < n; i += n_threads()) {
    const int64_t row = i / units_per_row;
    const int u = static_cast<int>(i % units_per_row);
    const typename F::Unit unit = F::load(starts, first + i);
    int q[F::kUnit / 4];
    float scale[kGroups], shift[kGroups];
    F::codes(unit, u % F::kUnitsPerBlock, q, scale, shift);
#pragma unroll
    for (int r = 0; r < F::kUnit / 16; ++r) {
      const int g = r * 16 / F::kGroup;
      auto* to = reinterpret_cast<uint4*>(out + row * k + column_of<F>(u, r));
#pragma unroll
      for (int piece = 0; piece < 2; ++piece) {  // 8 elements
        __half2 h[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int c = q[r * 4 + piece * 2 + j / 2] >> (j % 2 * 16);
          const float x0 = static_cast<float>(static_cast<int8_t>(c)),
                      x1 = static_cast<float>(static_cast<int8_t>(c >> 8));
          h[j] = __floats2half2_rn(scale[g] * x0 + shift[g], scale[g] * x1 + shift[g]);
        }
        to[piece] = *reinterpret_cast<uint4*>(h);
      }
    }
  }
}

}  // namespace

bool gemv_wants_q8(uint32_t type) {
  return with_format(type, [](auto) {});
}
bool gemv_reads(uint32_t type, int64_t k) {
  if (type == 0 || type == 1 || type == 30) return k % 8 == 0;
  bool fits = false;
  const bool known = with_format(type, [&]<typename F>(F) { fits = k % (F::kUnit * F::kUnitsPerBlock) == 0; });
  return known && fits;
}

void launch_gemv(const GemvArgs& args, cudaStream_t stream) {
  for (int64_t t = 0; t < args.tokens.capacity; t += kGemvTokens) {
    GemvArgs a = args;  // of the next tokens; only the first pass counts live ones, later ones run whole
    a.tokens.capacity = args.tokens.capacity - t < kGemvTokens ? args.tokens.capacity - t : kGemvTokens;
    if (t > 0) a.tokens.live = nullptr;
    const int64_t k = a.weights.k;
    if (a.x != nullptr) a.x += t * k;
    if (a.q8.q != nullptr) a.q8.q += t * a.q8.stride, a.q8.groups += t * (a.q8.stride / 32);
    a.y += t * a.y_stride;
    for (const float*& term : a.residual.shared) term = term != nullptr ? term + t * a.y_stride : nullptr;
    if (a.residual.plain != nullptr) a.residual.plain += t * a.y_stride;
    switch (a.weights.type) {
      case 0:
        launch_tokens<Plain<float>>(a, stream);
        break;
      case 1:
        launch_tokens<Plain<__half>>(a, stream);
        break;
      case 30:
        launch_tokens<Plain<__nv_bfloat16>>(a, stream);
        break;
      default:
        with_format(a.weights.type, [&]<typename F>(F) { launch_tokens<Quantized<F>>(a, stream); });
    }
  }
}

void launch_expand(uint32_t type, const void* weight, int64_t rows, int64_t k, int64_t first, int64_t last,
                   uint16_t* out, cudaStream_t stream) {
  with_format(type, [&]<typename F>(F) {
    const int64_t per_row = k / F::kUnit, n = (last - first) * per_row;
    expand<F><<<blocks_for(n), kThreads, 0, stream>>>(weight, rows * (k / (F::kUnit * F::kUnitsPerBlock)),
                                                      first * per_row, n, per_row, k, reinterpret_cast<__half*>(out));
  });
}

}  // namespace weft::cuda
