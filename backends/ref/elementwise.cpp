#include "ops/elementwise.h"

#include <array>
#include <cmath>

#include "backends/ref/primitives.h"
#include "backends/ref/rows.h"

namespace weft::ref {
namespace {

template <double (*kFunction)(double)>
void unary(const Call& call, int64_t first, int64_t last) {
  const int64_t columns = row_view(call.out[0].type, call.live).columns;
  const float* x = call.input(0).as<float>();
  float* y = call.out[0].as<float>();
  for (int64_t i = first * columns; i < last * columns; ++i) y[i] = static_cast<float>(kFunction(x[i]));
}

/// Where the rows of a broadcast input begin: strides by dimension of the output, 0 where the input repeats.
class BroadcastInput {
 public:
  BroadcastInput(const Tensor& tensor, const Shape& out) : data_(tensor.as<float>()), out_(out) {
    const Shape& shape = tensor.type.shape;
    int64_t stride = 1;
    for (int i = 1; i <= shape.rank(); ++i) {
      strides_[static_cast<size_t>(out.rank() - i)] = shape[-i] == 1 ? 0 : stride;
      stride *= shape[-i];
    }
  }

  /// Element `column` of row `row` is row_start(row)[column * step()].
  const float* row_start(int64_t row) const {
    const float* at = data_;
    const int inner = out_.rank() >= 2 ? 1 : 0;  // a vector is rows of one element
    for (int i = out_.rank() - 1 - inner; i >= 0; --i) {
      at += row % out_[i] * strides_[static_cast<size_t>(i)];
      row /= out_[i];
    }
    return at;
  }
  int64_t step() const { return out_.rank() >= 2 ? strides_[static_cast<size_t>(out_.rank() - 1)] : 0; }

 private:
  const float* data_;
  const Shape& out_;
  std::array<int64_t, Shape::kMaxRank> strides_{};
};

template <float (*kFunction)(float, float)>
void binary(const Call& call, int64_t first, int64_t last) {
  const Shape& shape = call.out[0].type.shape;
  const int64_t columns = row_view(call.out[0].type, call.live).columns;
  const BroadcastInput a(call.input(Add::kA), shape), b(call.input(Add::kB), shape);
  for (int64_t row = first; row < last; ++row) {
    const float *pa = a.row_start(row), *pb = b.row_start(row);
    float* y = call.out[0].as<float>() + row * columns;
    for (int64_t i = 0; i < columns; ++i) y[i] = kFunction(pa[i * a.step()], pb[i * b.step()]);
  }
}

void run_select(const Call& call, int64_t first, int64_t last) {
  const Shape& shape = call.out[0].type.shape;
  const int64_t columns = row_view(call.out[0].type, call.live).columns;
  const BroadcastInput cond(call.input(Select::kCond), shape), a(call.input(Select::kA), shape);
  const BroadcastInput b(call.input(Select::kB), shape);
  for (int64_t row = first; row < last; ++row) {
    const float *pc = cond.row_start(row), *pa = a.row_start(row), *pb = b.row_start(row);
    float* y = call.out[0].as<float>() + row * columns;
    for (int64_t i = 0; i < columns; ++i) y[i] = pc[i * cond.step()] != 0 ? pa[i * a.step()] : pb[i * b.step()];
  }
}

void run_constant(const Call& call, int64_t first, int64_t last) {
  const int64_t columns = row_view(call.out[0].type, call.live).columns;
  const std::vector<float>& values = call.match.op<Constant>().values.values;
  std::copy(values.begin() + first * columns, values.begin() + last * columns,
            call.out[0].as<float>() + first * columns);
}

/// Blocks are decoded whole: a quantized vector is one row, other vectors are rows of one element.
RowView cast_view(const Call& call) {
  const TensorType type = call.input(Cast::kX).type;
  const RowView view = row_view(type, call.live);
  return type.dtype->block_elems > 1 && type.shape.rank() == 1 ? RowView{1, type.shape[0]} : view;
}

int64_t cast_rows(const Call& call) { return cast_view(call).rows; }

int32_t to_i32(float x) {
  if (std::isnan(x)) return 0;
  if (x >= 0x1p31f) return INT32_MAX;
  if (x <= -0x1p31f) return INT32_MIN;
  return static_cast<int32_t>(x);
}

void run_cast(const Call& call, int64_t first, int64_t last) {
  const int64_t columns = cast_view(call).columns;
  const Tensor x = call.input(Cast::kX), y = call.out[0];
  const int64_t begin = first * columns, n = (last - first) * columns;
  const auto at = [begin](const Tensor& tensor) {
    return tensor.data + static_cast<size_t>(begin) / tensor.type.dtype->block_elems * tensor.type.dtype->block_bytes;
  };
  if (y.type.dtype == quant::f32) {
    x.type.dtype->decode(at(x), y.as<float>() + begin, static_cast<size_t>(n));
  } else if (y.type.dtype == quant::i32) {
    std::transform(x.as<float>() + begin, x.as<float>() + begin + n, y.as<int32_t>() + begin, to_i32);
  } else {
    y.type.dtype->encode(x.as<float>() + begin, at(y), static_cast<size_t>(n), nullptr);
  }
}

double f_neg(double x) { return -x; }
double f_exp(double x) { return std::exp(x); }
double f_log(double x) { return std::log(x); }
double f_sqrt(double x) { return std::sqrt(x); }
double f_reciprocal(double x) { return 1 / x; }
double f_tanh(double x) { return std::tanh(x); }
double f_erf(double x) { return std::erf(x); }
double f_sin(double x) { return std::sin(x); }
double f_cos(double x) { return std::cos(x); }
double f_floor(double x) { return std::floor(x); }
double f_abs(double x) { return std::abs(x); }

float f_add(float a, float b) { return a + b; }
float f_sub(float a, float b) { return a - b; }
float f_mul(float a, float b) { return a * b; }
float f_div(float a, float b) { return a / b; }
float f_maximum(float a, float b) { return a < b ? b : a; }
float f_minimum(float a, float b) { return b < a ? b : a; }
float f_less(float a, float b) { return a < b ? 1.0f : 0.0f; }
float f_equal(float a, float b) { return a == b ? 1.0f : 0.0f; }

constexpr Primitive kPrimitives[] = {
    {Neg::name, output_rows, unary<f_neg>},
    {Exp::name, output_rows, unary<f_exp>},
    {Log::name, output_rows, unary<f_log>},
    {Sqrt::name, output_rows, unary<f_sqrt>},
    {Reciprocal::name, output_rows, unary<f_reciprocal>},
    {Tanh::name, output_rows, unary<f_tanh>},
    {Erf::name, output_rows, unary<f_erf>},
    {Sin::name, output_rows, unary<f_sin>},
    {Cos::name, output_rows, unary<f_cos>},
    {Floor::name, output_rows, unary<f_floor>},
    {Abs::name, output_rows, unary<f_abs>},
    {Add::name, output_rows, binary<f_add>},
    {Sub::name, output_rows, binary<f_sub>},
    {Mul::name, output_rows, binary<f_mul>},
    {Div::name, output_rows, binary<f_div>},
    {Maximum::name, output_rows, binary<f_maximum>},
    {Minimum::name, output_rows, binary<f_minimum>},
    {Less::name, output_rows, binary<f_less>},
    {Equal::name, output_rows, binary<f_equal>},
    {Select::name, output_rows, run_select},
    {Constant::name, output_rows, run_constant},
    {Cast::name, cast_rows, run_cast},
};

}  // namespace

std::span<const Primitive> elementwise_primitives() { return kPrimitives; }

}  // namespace weft::ref
