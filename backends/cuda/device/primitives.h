// Launchers of the primitives: plain kernels that any graph can fall back on. All tensors are dense, on the device.
// `rows` is the leading dimension of the output, where not said otherwise.
#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/device/extent.h"

namespace weft::cuda {

enum class UnaryOp : uint8_t { neg, exp, log, sqrt, reciprocal, tanh, erf, sin, cos, floor, abs };
enum class BinaryOp : uint8_t { add, sub, mul, div, maximum, minimum, less, equal };

/// y[i] = op(x[i]), f32; a row is `columns` elements.
void launch_unary(UnaryOp op, const float* x, float* y, Extent rows, int64_t columns, cudaStream_t stream);
/// y = op(a, b), f32, dimensions of the result and strides of the operands in it.
void launch_binary(BinaryOp op, const float* a, Strides a_strides, const float* b, Strides b_strides, float* y,
                   Dims dims, Extent rows, cudaStream_t stream);
/// y = cond != 0 ? a : b.
void launch_select(const float* cond, Strides cond_strides, const float* a, Strides a_strides, const float* b,
                   Strides b_strides, float* y, Dims dims, Extent rows, cudaStream_t stream);
void launch_f32_to_i32(const float* x, int32_t* y, Extent rows, int64_t columns, cudaStream_t stream);
void launch_i32_to_f32(const int32_t* x, float* y, Extent rows, int64_t columns, cudaStream_t stream);

/// Elements of 2 or 4 bytes from one place of x to one of y: at most `rows` of dimension 0 of `dims`.
void launch_move(int element_bytes, const void* x, Strides x_strides, void* y, Strides y_strides, Dims dims,
                 Extent rows, cudaStream_t stream);
void launch_iota(float* y, int64_t n, cudaStream_t stream);

/// The sum or the largest of each row of `columns`.
void launch_reduce(bool largest, const float* x, float* y, Extent rows, int64_t per_row, int64_t columns,
                   cudaStream_t stream);
/// The k largest of each row, the lowest index first on ties; either output may be null.
void launch_top_k(const float* x, float* values, int32_t* indices, Extent rows, int64_t per_row, int64_t columns,
                  int64_t k, cudaStream_t stream);

/// y[i] [m, n] = a[i] [m, k] times b[i] [n, k] transposed, or b[i] [k, n].
void launch_batch_matmul(const float* a, const float* b, bool transpose_b, float* y, Extent batch, int64_t m, int64_t n,
                         int64_t k, cudaStream_t stream);

}  // namespace weft::cuda
