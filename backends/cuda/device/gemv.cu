// A warp takes a few neighbouring rows at a time (or up rows and their gate rows), its lanes unit after unit of 8, 32
// or 64 columns; where there are few rows, the warps of a block share out their columns. Bound by memory as long as
// products take an instruction or two a weight: what a unit or a row costs besides is kept small.
#include "backends/cuda/device/gemv.h"

#include <cuda_bf16.h>

#include "backends/cuda/device/epilogue.cuh"
#include "backends/cuda/device/formats.cuh"
#include "backends/cuda/device/fragments.cuh"
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

/// 32 columns of 8-bit activations: what one q is worth, and the sums of q over each half.
struct Q8Group {
  float scale;
  int16_t sums[2];
};

/// A row of 8-bit activations in shared memory. Of every 64 columns, the four runs of 16 lie in four planes, so that
/// lanes which take neighbouring units read neighbouring bytes.
struct Q8Row {
  int8_t* q;
  Q8Group* groups;
  unsigned plane;  // bytes

  __device__ Q8Row(void* memory, int64_t k)
      : q(static_cast<int8_t*>(memory)), plane(static_cast<unsigned>(k + 63) / 64 * 16) {
    groups = reinterpret_cast<Q8Group*>(q + plane * 4);
  }
  static size_t bytes(int64_t k) { return static_cast<size_t>((k + 63) / 64 * (64 + 2 * sizeof(Q8Group))); }
  /// `column`: a multiple of 16.
  __device__ int8_t* at(unsigned column) const { return q + column / 16 % 4 * plane + column / 64 * 16; }

  /// 16 columns; the two threads of a group of 32 come here together. scale = largest / 127, q to nearest.
  __device__ void put(unsigned column, const float (&y)[16]) const {
    float largest = 0;
#pragma unroll
    for (const float v : y) largest = fmaxf(largest, fabsf(v));
    const unsigned pair = 3u << (threadIdx.x % 32 / 2 * 2);
    largest = fmaxf(largest, __shfl_xor_sync(pair, largest, 1));
    const float scale = largest / 127.0f, inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded, and is its lowest byte
    int codes[4], total = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      uint32_t bits[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        bits[c] = __float_as_uint(fminf(fmaxf(y[i * 4 + c] * inverse, -127.0f), 127.0f) + kRound);
      }
      codes[i] = static_cast<int>(
          __byte_perm(__byte_perm(bits[0], bits[1], 0x0040), __byte_perm(bits[2], bits[3], 0x0040), 0x5410));
      total = __dp4a(codes[i], 0x01010101, total);
    }
    const int other = __shfl_xor_sync(pair, total, 1);
    *reinterpret_cast<int4*>(at(column)) = {codes[0], codes[1], codes[2], codes[3]};
    if (threadIdx.x % 2 == 0) {
      groups[column / 32] = {scale, {static_cast<int16_t>(total), static_cast<int16_t>(other)}};
    }
  }
};

/// Dot products of quantized rows with 8-bit activations.
template <typename F>
struct Quantized {
  using Unit = typename F::Unit;
  using Starts = PlaneStarts;
  static constexpr unsigned kUnit = F::kUnit, kBlock = F::kUnit * F::kUnitsPerBlock;
  static constexpr bool kRounds = true;

  static Starts starts(const void* weight, int64_t rows, int64_t k) {
    return plane_starts<F>(weight, rows * (k / kBlock));
  }
  __device__ static Starts row(const Starts& from, unsigned rows, unsigned k) {
    return moved<F>(from, static_cast<int64_t>(rows) * (k / kBlock));
  }
  __device__ static Unit load(const Starts& row, unsigned u) { return F::load(row, u); }

  template <int M, int kRows>
  __device__ static void add(const Unit (&units)[kRows], unsigned u, const GemvArgs& a, const void* memory,
                             float (&sums)[kRows][M]) {
    const Q8Row x(const_cast<void*>(memory), a.weights.k);
#pragma unroll
    for (unsigned half = 0; half < kUnit / 32; ++half) {
      const unsigned column = u * kUnit + half * 32;
      const int4 v[2] = {*reinterpret_cast<const int4*>(x.at(column)),
                         *reinterpret_cast<const int4*>(x.at(column + 16))};
      const Q8Group group = x.groups[column / 32];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        int q[8];
        float scale[32 / F::kGroup], shift[32 / F::kGroup];
        // A warp's units step by 32, a multiple of a block's: the phase is the lane's, always.
        F::codes(units[r], threadIdx.x % F::kUnitsPerBlock, half, q, scale, shift);
        int dots[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int* w = q + i * 4;
          const int before = F::kGroup == 32 && i == 1 ? dots[0] : 0;
          dots[i] = __dp4a(w[0], v[i].x, __dp4a(w[1], v[i].y, __dp4a(w[2], v[i].z, __dp4a(w[3], v[i].w, before))));
        }
        if constexpr (F::kGroup == 32) {
          sums[r][0] += group.scale * (scale[0] * static_cast<float>(dots[1]) +
                                       shift[0] * static_cast<float>(group.sums[0] + group.sums[1]));
        } else {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            sums[r][0] +=
                group.scale * (scale[i] * static_cast<float>(dots[i]) + shift[i] * static_cast<float>(group.sums[i]));
          }
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
  using Starts = const T*;
  static constexpr unsigned kUnit = 8;
  static constexpr bool kRounds = false;

  static Starts starts(const void* weight, int64_t, int64_t) { return static_cast<const T*>(weight); }
  __device__ static Starts row(const Starts& from, unsigned rows, unsigned k) {
    return from + static_cast<int64_t>(rows) * k;
  }
  __device__ static Unit load(const Starts& row, unsigned u) {
    Unit unit;
#pragma unroll
    for (unsigned i = 0; i < sizeof(T) / 2; ++i) unit.v[i] = load16(row + u * 8 + i * (16 / sizeof(T)));
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

  template <int M, int kRows>
  __device__ static void add(const Unit (&units)[kRows], unsigned u, const GemvArgs& a, const void* x,
                             float (&sums)[kRows][M]) {
#pragma unroll
    for (int t = 0; t < M; ++t) {
      const auto* from =
          reinterpret_cast<const float4*>(static_cast<const float*>(x) + vector_of<M>(a, t) * a.weights.k + u * 8);
      const float4 x0 = from[0], x1 = from[1];
      const float xs[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sums[r][t] += element(units[r], i) * xs[i];
      }
    }
  }
};

/// Sums of kRows values over a warp: lane 32 / kRows * r gets that of row r.
template <int kRows>
__device__ float sum_rows(float (&v)[kRows]) {
  const unsigned lane = threadIdx.x % 32;
  unsigned step = 16;
#pragma unroll
  for (int n = kRows / 2; n > 0; n /= 2, step /= 2) {
    const bool upper = lane & step;
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float keep = upper ? v[n + i] : v[i], give = upper ? v[i] : v[n + i];
      v[i] = keep + __shfl_xor_sync(0xFFFFFFFFu, give, step);
    }
  }
  for (; step > 0; step /= 2) v[0] += __shfl_xor_sync(0xFFFFFFFFu, v[0], step);
  return v[0];
}

template <typename Row>
struct Blocks {
  typename Row::Starts starts[kMaxBlocks];
};

/// Chunks whose loads are under way, of 32 units of each row: as many as fit in registers.
template <typename Row, int kRows>
constexpr int kAhead = sizeof(typename Row::Unit) * kRows > 96 ? 1 : 2;

/// A task: kRows neighbouring rows or, gated, half as many up rows and their gate rows. `splits` warps share out the
/// columns of a task; the grid fills the device once, and loads of the next task begin before a task is done.
template <typename Row, int M, int kRows, bool kGated>
__global__ void __launch_bounds__(kWarps * 32, 2)
    gemv(const __grid_constant__ GemvArgs a, const __grid_constant__ Blocks<Row> blocks, unsigned splits) {
  extern __shared__ float4 memory[];
  __shared__ float parts[2][kWarps][M][kRows];
  constexpr unsigned kOut = kGated ? kRows / 2 : kRows;
  constexpr int kD = kAhead<Row, kRows>;
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const unsigned split = warp % splits, slots = kWarps / splits, stride = gridDim.x * slots;
  const auto n_rows = static_cast<unsigned>(a.weights.begin[a.weights.n_blocks]), n_out = kGated ? n_rows / 2 : n_rows;
  const auto k = static_cast<unsigned>(a.weights.k);
  const unsigned n_tasks = (n_out + kOut - 1) / kOut, n_units = k / Row::kUnit, n_chunks = (n_units + 31) / 32;
  const auto first_row = [&](unsigned task) {  // the last task may have rows of the one before
    const unsigned row = task * kOut;
    return row + kOut <= n_out ? row : n_out - kOut;
  };

  // What is loaded next.
  unsigned task = blockIdx.x * slots + warp / splits, chunk = split;
  typename Row::Starts starts[kGated ? 2 : 1];
  const auto enter = [&] {
#pragma unroll
    for (unsigned i = 0; i < (kGated ? 2 : 1); ++i) {
      const Place place = place_of(a.weights, first_row(task) + i * n_out);
      starts[i] = Row::row(blocks.starts[place.block], static_cast<unsigned>(place.row), k);
    }
  };
  const auto load = [&](typename Row::Unit& to, unsigned r) {
    const unsigned u = chunk * 32 + lane;
    if (task < n_tasks && u < n_units) to = Row::load(Row::row(starts[r / kOut], r % kOut, k), u);
  };
  const auto advance = [&] {
    chunk += splits;
    if (chunk < n_chunks) return;
    chunk = split;
    task += stride;
    if (task < n_tasks) enter();
  };
  typename Row::Unit ahead[kD][kRows];
  let_next_start();
  unsigned done = blockIdx.x * slots;  // the first of the block's tasks whose sums grow
  if (task < n_tasks) enter();
#pragma unroll
  for (int i = 0; i < kD; ++i) {  // weights depend on nothing
#pragma unroll
    for (unsigned r = 0; r < kRows; ++r) load(ahead[i][r], r);
    advance();
  }
  wait_for_previous();
  const void* x = a.x;
  if (M == 1 && a.prologue.x != nullptr) {  // always, where activations are rounded
    if constexpr (Row::kRounds) {
      const Q8Row rounded(memory, a.weights.k);
      norm_row<16, 1>(a.prologue, 0, blockIdx.x == 0, [&](unsigned i, const float(&y)[16]) { rounded.put(i, y); });
    } else {
      norm_row<4, 4>(a.prologue, 0, blockIdx.x == 0, [&](unsigned i, const float(&y)[4]) {
        memory[i / 4] = {y[0], y[1], y[2], y[3]};
      });
    }
    __syncthreads();
    x = memory;
  }
  const auto n_tokens = static_cast<unsigned>(rows_of(a.tokens));
  unsigned parity = 0;
#pragma unroll 1
  for (; done < n_tasks; done += stride) {
    float sums[kRows][M] = {};
#pragma unroll 1
    for (unsigned c = split; c < n_chunks; c += splits) {
      const unsigned u = c * 32 + lane;
      if (u < n_units) Row::template add<M, kRows>(ahead[0], u, a, Row::kRounds ? memory : x, sums);
#pragma unroll
      for (unsigned r = 0; r < kRows; ++r) {
#pragma unroll
        for (int i = 0; i + 1 < kD; ++i) ahead[i][r] = ahead[i + 1][r];
        load(ahead[kD - 1][r], r);
      }
      advance();
    }
#pragma unroll
    for (int t = 0; t < M; ++t) {
      float v[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) v[r] = sums[r][t];
      const float sum = sum_rows(v);
      if (lane % (32 / kRows) == 0) parts[parity][warp][t][lane / (32 / kRows)] = sum;
    }
    // The parts of a task in order, a thread an output.
    if (splits > 1) __syncthreads();
    else __syncwarp();
    const unsigned items = kOut * n_tokens, own = splits > 1 ? threadIdx.x : warp * 32 + lane;
    const unsigned slot = splits > 1 ? own / items : warp, item = splits > 1 ? own % items : lane;
    if (slot < slots && item < items && done + slot < n_tasks) {
      const unsigned r = item % kOut, t = item / kOut;
      float v = 0, gate = 0;
      for (unsigned i = slot * splits; i < (slot + 1) * splits; ++i) {
        v += parts[parity][i][t][r];
        if (kGated) gate += parts[parity][i][t][kRows - kOut + r];
      }
      store<kGated>(a, t, first_row(done + slot) + r, v, gate);
    }
    parity ^= 1;
  }
}

template <typename Row, int M, int kRows, bool kGated>
void launch_grid(const GemvArgs& a, cudaStream_t stream) {
  const auto kernel = gemv<Row, M, kRows, kGated>;
  const int64_t k = a.weights.k, n_out = a.weights.rows() / (kGated ? 2 : 1), per_task = kGated ? kRows / 2 : kRows;
  Blocks<Row> blocks;
  for (int i = 0; i < a.weights.n_blocks; ++i) {
    blocks.starts[i] = Row::starts(a.weights.block[i], a.weights.begin[i + 1] - a.weights.begin[i], k);
  }
  const size_t row = Row::kRounds ? Q8Row::bytes(k) : static_cast<size_t>(k) * sizeof(float);
  const size_t shared = a.prologue.x != nullptr ? row : 0;
  if (shared > 40 << 10) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  }
  int resident = 1;
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, kWarps * 32, shared);
  const int64_t most = static_cast<int64_t>(sm_count()) * (resident < 1 ? 1 : resident);
  const int64_t tasks = (n_out + per_task - 1) / per_task, chunks = (k / Row::kUnit + 31) / 32;
  unsigned splits = 1;  // as long as there are warps without a task, and columns for them
  while (splits < kWarps && tasks * splits * 2 <= most * kWarps && splits * 2 <= chunks) splits *= 2;
  const int64_t wanted = (tasks * splits + kWarps - 1) / kWarps;
  launch_dependent(kernel, dim3(static_cast<unsigned>(wanted < most ? wanted : most)), dim3(kWarps * 32), shared,
                   stream, a, blocks, splits);
}

template <typename Row, int M>
void launch_rows(const GemvArgs& a, cudaStream_t stream) {
  constexpr int kRows = M == 1 ? kGemvRows : 2;
  a.gated ? launch_grid<Row, M, kRows, true>(a, stream) : launch_grid<Row, M, kRows, false>(a, stream);
}

template <typename Row>
void launch_tokens(const GemvArgs& a, cudaStream_t stream) {
  const int64_t n = a.tokens.capacity;
  if (n <= 1) launch_rows<Row, 1>(a, stream);
  else if (n <= 4) launch_rows<Row, 4>(a, stream);
  else launch_rows<Row, 8>(a, stream);
}

}  // namespace

bool gemv_reads(uint32_t type, int64_t k) { return (type == 0 || type == 1 || type == 30) && k % 8 == 0; }

void launch_gemv(const GemvArgs& args, cudaStream_t stream) {
  for (int64_t t = 0; t < args.tokens.capacity; t += kGemvTokens) {
    const GemvArgs a = tokens_from(args, t, kGemvTokens);
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
        with_format(a.weights.type, [&]<typename F>(F) { launch_rows<Quantized<F>, 1>(a, stream); });
    }
  }
}

}  // namespace weft::cuda
