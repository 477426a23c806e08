// The primitives: what every graph can be lowered to.
#include "ops/all.h"

#include "backends/cuda/check.h"
#include "backends/cuda/device/gather.h"
#include "backends/cuda/device/primitives.h"
#include "backends/cuda/device/weights.h"
#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/steps.h"

namespace weft::cuda {
namespace {

using Prepare = void (*)(const Call&, Steps&);

Kernel plain(std::string_view op, Prepare prepare) {
  return {.name = fmt::format("{}.plain", op),
          .covers = {op},
          .arithmetic = Arithmetic::f32,
          .refuses = nullptr,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = prepare};
}

Dims dims_of(const Shape& shape) {
  Dims dims{.rank = shape.rank()};
  for (int i = 0; i < shape.rank(); ++i) dims.of[i] = shape[i];
  return dims;
}

/// Of a dense tensor, by its own dimensions.
Strides dense(const Shape& shape) {
  Strides strides;
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides.of[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

/// Of an operand that broadcasts to `out`: aligned at the last dimension, 0 where it repeats.
Strides broadcast_strides(const Shape& shape, const Shape& out) {
  Strides strides;
  int64_t stride = 1;
  for (int i = 1; i <= shape.rank(); ++i) {
    strides.of[out.rank() - i] = shape[-i] == 1 ? 0 : stride;
    stride *= shape[-i];
  }
  return strides;
}

template <UnaryOp kOp>
void unary(const Call& call, Steps& steps) {
  const Tensor x = call.input(0), y = call.out[0];
  emit(steps, [=, rows = extent_of(y.type, call.live)](cudaStream_t stream) {
    launch_unary(kOp, x.as<float>(), y.as<float>(), rows, row_elements(y.type), stream);
  });
}

template <BinaryOp kOp>
void binary(const Call& call, Steps& steps) {
  const Tensor a = call.input(0), b = call.input(1), y = call.out[0];
  emit(steps, [=, rows = extent_of(y.type, call.live)](cudaStream_t stream) {
    const Shape& shape = y.type.shape;
    launch_binary(kOp, a.as<float>(), broadcast_strides(a.type.shape, shape), b.as<float>(),
                  broadcast_strides(b.type.shape, shape), y.as<float>(), dims_of(shape), rows, stream);
  });
}

void select(const Call& call, Steps& steps) {
  const Tensor cond = call.input(Select::kCond), a = call.input(Select::kA), b = call.input(Select::kB);
  emit(steps, [=, y = call.out[0], rows = extent_of(call.out[0].type, call.live)](cudaStream_t stream) {
    const Shape& shape = y.type.shape;
    launch_select(cond.as<float>(), broadcast_strides(cond.type.shape, shape), a.as<float>(),
                  broadcast_strides(a.type.shape, shape), b.as<float>(), broadcast_strides(b.type.shape, shape),
                  y.as<float>(), dims_of(shape), rows, stream);
  });
}

/// The values live in the plan's graph, as long as the plan.
void constant(const Call& call, Steps& steps) {
  const std::vector<float>& values = call.match.op<Constant>().values.values;
  emit(steps, [y = call.out[0], from = values.data(), n = values.size() * sizeof(float)](cudaStream_t stream) {
    if (n > 0) check(cudaMemcpyAsync(y.data, from, n, cudaMemcpyHostToDevice, stream), "writing a constant");
  });
}

void cast(const Call& call, Steps& steps) {
  const Tensor x = call.input(Cast::kX), y = call.out[0];
  // A quantized vector is one row: its blocks are not elements.
  const bool whole = x.type.shape.rank() < 2;
  const Extent rows = whole && x.type.dtype->block_elems > 1 ? Extent{} : extent_of(y.type, call.live);
  const int64_t columns = whole && x.type.dtype->block_elems > 1 ? x.type.elements() : row_elements(x.type);
  emit(steps, [=](cudaStream_t stream) {
    if (x.type.dtype == quant::i32) launch_i32_to_f32(x.as<int32_t>(), y.as<float>(), rows, columns, stream);
    else if (y.type.dtype == quant::i32) launch_f32_to_i32(x.as<float>(), y.as<int32_t>(), rows, columns, stream);
    else if (y.type.dtype == quant::f32) launch_decode(x.type.dtype->id, x.data, y.as<float>(), rows, columns, stream);
    else launch_encode(y.type.dtype->id, x.as<float>(), y.data, rows, columns, stream);
  });
}

/// Usually the planner gives both values the same bytes and nothing is left to do.
void reshape(const Call& call, Steps& steps) {
  const Tensor x = call.input(Reshape::kX), y = call.out[0];
  if (x.data == y.data) return;
  emit(steps, [=, bytes = y.type.bytes()](cudaStream_t stream) {
    check(cudaMemcpyAsync(y.data, x.data, bytes, cudaMemcpyDeviceToDevice, stream), "copying a tensor");
  });
}

void move(Steps& steps, const Tensor& x, const std::byte* from, Strides x_strides, std::byte* to, Strides y_strides,
          const Shape& shape, Extent rows) {
  const auto bytes = static_cast<int>(x.type.dtype->block_bytes);
  if (shape.elements() == 0) return;
  emit(steps, [=, dims = dims_of(shape)](cudaStream_t stream) {
    launch_move(bytes, from, x_strides, to, y_strides, dims, rows, stream);
  });
}

void permute(const Call& call, Steps& steps) {
  const Tensor x = call.input(Permute::kX), y = call.out[0];
  const auto& order = call.match.op<Permute>().order;
  const Strides of_x = dense(x.type.shape);
  Strides strides;
  for (size_t i = 0; i < order.size(); ++i) strides.of[i] = of_x.of[order[i]];
  move(steps, x, x.data, strides, y.data, dense(y.type.shape), y.type.shape, extent_of(y.type, call.live));
}

void slice(const Call& call, Steps& steps) {
  const Tensor x = call.input(Slice::kX), y = call.out[0];
  const auto& op = call.match.op<Slice>();
  const Strides strides = dense(x.type.shape);
  const int64_t start = op.start * strides.of[op.dim] * x.type.dtype->block_bytes;
  move(steps, x, x.data + start, strides, y.data, dense(y.type.shape), y.type.shape, extent_of(y.type, call.live));
}

void concat(const Call& call, Steps& steps) {
  const Tensor y = call.out[0];
  const int64_t dim = call.match.op<Concat>().dim;
  const Strides strides = dense(y.type.shape);
  int64_t at = 0;
  for (const Tensor& x : call.inputs(Concat::kX)) {
    const int64_t offset = at * strides.of[dim] * y.type.dtype->block_bytes;
    const Extent rows = dim == 0 ? Extent{nullptr, x.type.shape[0]} : extent_of(y.type, call.live);
    move(steps, x, x.data, dense(x.type.shape), y.data + offset, strides, x.type.shape, rows);
    at += x.type.shape[static_cast<int>(dim)];
  }
}

/// Unlike other vectors, a vector that is reduced is one row, live or not. (leading rows, rows of each, columns)
struct Reduced {
  Extent rows;
  int64_t per_row = 1, columns = 1;
};
Reduced reduced(const TensorType& x, const int32_t* live) {
  if (x.shape.rank() < 2) return {{}, 1, x.shape.columns()};
  return {extent_of(x, live), row_elements(x) / x.shape.columns(), x.shape.columns()};
}

template <bool kLargest>
void reduce(const Call& call, Steps& steps) {
  const Tensor x = call.input(0);
  emit(steps, [x, y = call.out[0], r = reduced(x.type, call.live)](cudaStream_t stream) {
    launch_reduce(kLargest, x.as<float>(), y.as<float>(), r.rows, r.per_row, r.columns, stream);
  });
}

void top_k(const Call& call, Steps& steps) {
  const Tensor x = call.input(TopK::kX), values = call.out[0], indices = call.out[1];
  emit(steps, [=, r = reduced(x.type, call.live), k = call.match.op<TopK>().k](cudaStream_t stream) {
    launch_top_k(x.as<float>(), values.as<float>(), indices.as<int32_t>(), r.rows, r.per_row, r.columns, k, stream);
  });
}

void matmul(const Call& call, Steps& steps) {
  const Tensor x = call.input(Matmul::kX), y = call.out[0];
  const int64_t k = x.type.shape.columns(), per_row = row_elements(x.type) / std::max<int64_t>(1, k);
  Extent rows = extent_of(x.type, call.live);
  if (per_row != 1) rows = {nullptr, rows.capacity * per_row};  // dead rows too: nobody reads them
  int64_t first = 0;
  for (const Tensor& weight : call.inputs(Matmul::kWeight)) {
    emit(steps, [=, n = weight.dim(0), n_out = y.type.shape.columns()](cudaStream_t stream) {
      launch_matmul(weight.type.dtype->id, weight.data, x.as<float>(), y.as<float>() + first, rows, n, k, n_out,
                    stream);
    });
    first += weight.dim(0);
  }
}

void batch_matmul(const Call& call, Steps& steps) {
  const Tensor a = call.input(BatchMatmul::kA), b = call.input(BatchMatmul::kB), y = call.out[0];
  const bool transpose_b = call.match.op<BatchMatmul>().transpose_b;
  emit(steps, [=, rows = extent_of(y.type, call.live)](cudaStream_t stream) {
    launch_batch_matmul(a.as<float>(), b.as<float>(), transpose_b, y.as<float>(), rows, y.dim(1), y.dim(2), a.dim(2),
                        stream);
  });
}

void indexed_matmul(const Call& call, Steps& steps) {
  const Tensor x = call.input(IndexedMatmul::kX), ids = call.input(IndexedMatmul::kIds), y = call.out[0];
  const Tensor weight = call.input(IndexedMatmul::kWeight);
  emit(steps, [=, rows = extent_of(y.type, call.live)](cudaStream_t stream) {
    launch_indexed_matmul(weight.type.dtype->id, weight.data, weight.dim(0), x.as<float>(), x.type.shape.rank() == 3,
                          ids.as<int32_t>(), y.as<float>(), rows, y.dim(1), y.dim(2), weight.dim(2), stream);
  });
}

void gather_rows(const Call& call, Steps& steps) {
  const Tensor table = call.input(GatherRows::kTable), ids = call.input(GatherRows::kIds), y = call.out[0];
  emit(steps, [=, rows = extent_of(y.type, call.live)](cudaStream_t stream) {
    launch_gather({.table = gather_table(table, ids), .y = y.as<float>(), .rows = rows, .columns = y.dim(1)}, stream);
  });
}

void iota(const Call& call, Steps& steps) {
  emit(steps, [y = call.out[0]](cudaStream_t stream) { launch_iota(y.as<float>(), y.dim(0), stream); });
}

void append_pages(const Call& call, Steps& steps) {
  const Tensor cache = call.out[0], rows = call.input(AppendPages::kRows), slots = call.input(AppendPages::kSlots);
  TensorType tokens = rows.type;
  tokens.rows = common_rows({tokens, slots.type});
  emit(steps, [=, live = extent_of(tokens, call.live)](cudaStream_t stream) {
    launch_append_pages(cache.type.dtype->id, cache.data, cache.dim(0), cache.dim(1), cache.dim(2), cache.dim(3),
                        rows.as<float>(), slots.as<int32_t>(), live, stream);
  });
}

void gather_pages(const Call& call, Steps& steps) {
  const Tensor cache = call.input(GatherPages::kCache), table = call.input(GatherPages::kPageTable);
  const Tensor lengths = call.input(GatherPages::kLengths);
  emit(steps, [=, y = call.out[0]](cudaStream_t stream) {
    launch_gather_pages(cache.type.dtype->id, cache.data, cache.dim(0), cache.dim(1), cache.dim(2), cache.dim(3),
                        table.as<int32_t>(), lengths.as<int32_t>(), table.dim(0), table.dim(1), y.as<float>(), stream);
  });
}

/// Only what can be written here.
Kernel append_kernel() {
  Kernel kernel = plain(AppendPages::name, append_pages);
  kernel.refuses = [](const Match& match, const DeviceInfo&) -> std::optional<std::string> {
    const DType type = match.type(AppendPages::kCache).dtype;
    if (encodes_type(type->id)) return std::nullopt;
    return fmt::format("it cannot write a cache of {}", type.name());
  };
  return kernel;
}

}  // namespace

std::vector<Kernel> list_primitives() {
  return {plain(Neg::name, unary<UnaryOp::neg>),
          plain(Exp::name, unary<UnaryOp::exp>),
          plain(Log::name, unary<UnaryOp::log>),
          plain(Sqrt::name, unary<UnaryOp::sqrt>),
          plain(Reciprocal::name, unary<UnaryOp::reciprocal>),
          plain(Tanh::name, unary<UnaryOp::tanh>),
          plain(Erf::name, unary<UnaryOp::erf>),
          plain(Sin::name, unary<UnaryOp::sin>),
          plain(Cos::name, unary<UnaryOp::cos>),
          plain(Floor::name, unary<UnaryOp::floor>),
          plain(Abs::name, unary<UnaryOp::abs>),
          plain(Add::name, binary<BinaryOp::add>),
          plain(Sub::name, binary<BinaryOp::sub>),
          plain(Mul::name, binary<BinaryOp::mul>),
          plain(Div::name, binary<BinaryOp::div>),
          plain(Maximum::name, binary<BinaryOp::maximum>),
          plain(Minimum::name, binary<BinaryOp::minimum>),
          plain(Less::name, binary<BinaryOp::less>),
          plain(Equal::name, binary<BinaryOp::equal>),
          plain(Select::name, select),
          plain(Constant::name, constant),
          plain(Cast::name, cast),
          plain(Reshape::name, reshape),
          plain(Permute::name, permute),
          plain(Slice::name, slice),
          plain(Concat::name, concat),
          plain(ReduceSum::name, reduce<false>),
          plain(ReduceMax::name, reduce<true>),
          plain(TopK::name, top_k),
          plain(Matmul::name, matmul),
          plain(BatchMatmul::name, batch_matmul),
          plain(IndexedMatmul::name, indexed_matmul),
          plain(GatherRows::name, gather_rows),
          plain(Iota::name, iota),
          append_kernel(),
          plain(GatherPages::name, gather_pages)};
}

}  // namespace weft::cuda
