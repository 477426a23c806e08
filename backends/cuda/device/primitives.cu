// Elementwise, movement and reductions: one thread an output element, or a warp a row. Bound by memory.
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/primitives.h"

namespace weft::cuda {
namespace {

template <typename F>
__global__ void each(Extent rows, int64_t columns, F f) {
  const int64_t n = rows_of(rows) * columns;
  for (int64_t i = thread_index(); i < n; i += n_threads()) f(i);
}

template <typename F>
void launch_each(Extent rows, int64_t columns, cudaStream_t stream, F f) {
  each<<<blocks_for(rows.capacity * columns), kThreads, 0, stream>>>(rows, columns, f);
}

/// Offsets in up to three operands of element i of the result.
template <int N>
struct Places {
  int64_t at[N] = {};
};
template <int N>
__device__ Places<N> places(int64_t i, const Dims& dims, const Strides (&strides)[N]) {
  Places<N> out;
  for (int d = dims.rank - 1; d >= 0; --d) {
    const int64_t index = i % dims.of[d];
    i /= dims.of[d];
    for (int n = 0; n < N; ++n) out.at[n] += index * strides[n].of[d];
  }
  return out;
}

int64_t inner(const Dims& dims) {
  int64_t n = 1;
  for (int i = 1; i < dims.rank; ++i) n *= dims.of[i];
  return n;
}

template <int N>
struct Operands {
  Dims dims;
  Strides strides[N];
};

/// One warp a row.
template <typename F>
__global__ void each_row(Extent rows, int64_t per_row, F f) {
  const int64_t n = rows_of(rows) * per_row, stride = n_threads() / 32;
  for (int64_t row = thread_index() / 32; row < n; row += stride) f(row, static_cast<int>(threadIdx.x % 32));
}

template <typename T>
void move_elements(const void* x, void* y, const Operands<2>& operands, Extent rows, cudaStream_t stream) {
  launch_each(rows, inner(operands.dims), stream, [=] __device__(int64_t i) {
    const auto at = places(i, operands.dims, operands.strides).at;
    static_cast<T*>(y)[at[1]] = static_cast<const T*>(x)[at[0]];
  });
}

constexpr int kTile = 16;

__global__ void batch_matmul(const float* a, const float* b, bool transpose_b, float* y, Extent batch, int64_t m,
                             int64_t n, int64_t k) {
  __shared__ float tile_a[kTile][kTile + 1], tile_b[kTile][kTile + 1];
  const int tx = threadIdx.x, ty = threadIdx.y;
  const int64_t row = static_cast<int64_t>(blockIdx.y) * kTile + ty,
                column = static_cast<int64_t>(blockIdx.x) * kTile + tx;
  const int64_t n_batch = rows_of(batch);
  for (int64_t i = blockIdx.z; i < n_batch; i += gridDim.z) {
    const float *pa = a + i * m * k, *pb = b + i * n * k;
    float sum = 0;
    for (int64_t k0 = 0; k0 < k; k0 += kTile) {
      tile_a[ty][tx] = row < m && k0 + tx < k ? pa[row * k + k0 + tx] : 0.0f;
      const int64_t other = static_cast<int64_t>(blockIdx.x) * kTile;  // b's rows of this tile, or its columns
      if (transpose_b) {
        tile_b[tx][ty] = other + ty < n && k0 + tx < k ? pb[(other + ty) * k + k0 + tx] : 0.0f;
      } else {
        tile_b[ty][tx] = k0 + ty < k && column < n ? pb[(k0 + ty) * n + column] : 0.0f;
      }
      __syncthreads();
      const int64_t left = k - k0 < kTile ? k - k0 : kTile;  // 0 * what lies past the end may be NaN
      for (int j = 0; j < left; ++j) sum += tile_a[ty][j] * tile_b[j][tx];
      __syncthreads();
    }
    if (row < m && column < n) y[i * m * n + row * n + column] = sum;
  }
}

}  // namespace

void launch_unary(UnaryOp op, const float* x, float* y, Extent rows, int64_t columns, cudaStream_t stream) {
  launch_each(rows, columns, stream, [=] __device__(int64_t i) {
    const float v = x[i];
    switch (op) {
      case UnaryOp::neg:
        y[i] = -v;
        break;
      case UnaryOp::exp:
        y[i] = expf(v);
        break;
      case UnaryOp::log:
        y[i] = logf(v);
        break;
      case UnaryOp::sqrt:
        y[i] = sqrtf(v);
        break;
      case UnaryOp::reciprocal:
        y[i] = 1.0f / v;
        break;
      case UnaryOp::tanh:
        y[i] = tanhf(v);
        break;
      case UnaryOp::erf:
        y[i] = erff(v);
        break;
      case UnaryOp::sin:
        y[i] = sinf(v);
        break;
      case UnaryOp::cos:
        y[i] = cosf(v);
        break;
      case UnaryOp::floor:
        y[i] = floorf(v);
        break;
      case UnaryOp::abs:
        y[i] = fabsf(v);
        break;
    }
  });
}

void launch_binary(BinaryOp op, const float* a, Strides a_strides, const float* b, Strides b_strides, float* y,
                   Dims dims, Extent rows, cudaStream_t stream) {
  const Operands<2> operands{dims, {a_strides, b_strides}};
  launch_each(rows, inner(dims), stream, [=] __device__(int64_t i) {
    const auto at = places(i, operands.dims, operands.strides).at;
    const float l = a[at[0]], r = b[at[1]];
    switch (op) {
      case BinaryOp::add:
        y[i] = l + r;
        break;
      case BinaryOp::sub:
        y[i] = l - r;
        break;
      case BinaryOp::mul:
        y[i] = l * r;
        break;
      case BinaryOp::div:
        y[i] = l / r;
        break;
      case BinaryOp::maximum:
        y[i] = l < r ? r : l;
        break;
      case BinaryOp::minimum:
        y[i] = r < l ? r : l;
        break;
      case BinaryOp::less:
        y[i] = l < r ? 1.0f : 0.0f;
        break;
      case BinaryOp::equal:
        y[i] = l == r ? 1.0f : 0.0f;
        break;
    }
  });
}

void launch_select(const float* cond, Strides cond_strides, const float* a, Strides a_strides, const float* b,
                   Strides b_strides, float* y, Dims dims, Extent rows, cudaStream_t stream) {
  const Operands<3> operands{dims, {cond_strides, a_strides, b_strides}};
  launch_each(rows, inner(dims), stream, [=] __device__(int64_t i) {
    const auto at = places(i, operands.dims, operands.strides).at;
    y[i] = cond[at[0]] != 0 ? a[at[1]] : b[at[2]];
  });
}

void launch_f32_to_i32(const float* x, int32_t* y, Extent rows, int64_t columns, cudaStream_t stream) {
  // The conversion saturates and takes NaN to 0.
  launch_each(rows, columns, stream, [=] __device__(int64_t i) { y[i] = __float2int_rz(x[i]); });
}
void launch_i32_to_f32(const int32_t* x, float* y, Extent rows, int64_t columns, cudaStream_t stream) {
  launch_each(rows, columns, stream, [=] __device__(int64_t i) { y[i] = static_cast<float>(x[i]); });
}

void launch_move(int element_bytes, const void* x, Strides x_strides, void* y, Strides y_strides, Dims dims,
                 Extent rows, cudaStream_t stream) {
  const Operands<2> operands{dims, {x_strides, y_strides}};
  if (element_bytes == 2) move_elements<uint16_t>(x, y, operands, rows, stream);
  else move_elements<uint32_t>(x, y, operands, rows, stream);
}

void launch_iota(float* y, int64_t n, cudaStream_t stream) {
  launch_each({nullptr, n}, 1, stream, [=] __device__(int64_t i) { y[i] = static_cast<float>(i); });
}

void launch_reduce(bool largest, const float* x, float* y, Extent rows, int64_t per_row, int64_t columns,
                   cudaStream_t stream) {
  const auto reduce = [=] __device__(int64_t row, int lane) {
    float v = largest ? -INFINITY : 0.0f;
    for (int64_t i = lane; i < columns; i += 32) {
      const float e = x[row * columns + i];
      v = largest ? fmaxf(v, e) : v + e;
    }
    v = largest ? warp_max(v) : warp_sum(v);
    if (lane == 0) y[row] = v;
  };
  each_row<<<blocks_for(rows.capacity * per_row * 32), kThreads, 0, stream>>>(rows, per_row, reduce);
}

void launch_top_k(const float* x, float* values, int32_t* indices, Extent rows, int64_t per_row, int64_t columns,
                  int64_t k, cudaStream_t stream) {
  // The next is the largest that comes after the last one taken: smaller, or equal with a higher index.
  const auto pick = [=] __device__(int64_t row, int lane) {
    float last = 0;
    int64_t last_index = -1;
    for (int64_t j = 0; j < k; ++j) {
      float best = -INFINITY;
      int64_t best_index = columns;
      for (int64_t i = lane; i < columns; i += 32) {
        const float v = x[row * columns + i];
        const bool left = last_index < 0 || v < last || (v == last && i > last_index);
        if (left && (best_index == columns || v > best)) best = v, best_index = i;
      }
      for (int step = 16; step > 0; step /= 2) {
        const float v = __shfl_xor_sync(0xFFFFFFFFu, best, step);
        const int64_t i = __shfl_xor_sync(0xFFFFFFFFu, best_index, step);
        const bool better = i < columns && (best_index == columns || v > best || (v == best && i < best_index));
        if (better) best = v, best_index = i;
      }
      // NaN compares with nothing: what is left is NaN, in any order, and an index stays in range.
      const int64_t taken = best_index < columns ? best_index : j;
      if (lane == 0) {
        if (values != nullptr) values[row * k + j] = x[row * columns + taken];
        if (indices != nullptr) indices[row * k + j] = static_cast<int32_t>(taken);
      }
      last = best, last_index = taken;
    }
  };
  each_row<<<blocks_for(rows.capacity * per_row * 32), kThreads, 0, stream>>>(rows, per_row, pick);
}

void launch_batch_matmul(const float* a, const float* b, bool transpose_b, float* y, Extent batch, int64_t m, int64_t n,
                         int64_t k, cudaStream_t stream) {
  if (batch.capacity == 0 || m == 0 || n == 0) return;
  const dim3 grid(static_cast<unsigned>((n + kTile - 1) / kTile), static_cast<unsigned>((m + kTile - 1) / kTile),
                  static_cast<unsigned>(batch.capacity < 65535 ? batch.capacity : 65535));
  batch_matmul<<<grid, dim3(kTile, kTile), 0, stream>>>(a, b, transpose_b, y, batch, m, n, k);
}

}  // namespace weft::cuda
