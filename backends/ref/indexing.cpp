#include "ops/indexing.h"

#include "backends/ref/primitives.h"
#include "backends/ref/rows.h"

namespace weft::ref {
namespace {

void run_gather_rows(const Call& call, int64_t first, int64_t last) {
  const Tensor table = call.input(GatherRows::kTable), y = call.out[0];
  const int32_t* ids = call.input(GatherRows::kIds).as<int32_t>();
  const int64_t columns = y.dim(1);
  for (int64_t row = first; row < last; ++row) {
    float* to = y.as<float>() + row * columns;
    if (ids[row] >= 0 && ids[row] < table.dim(0)) {
      decode_row(table, ids[row], to);
    } else {
      std::fill_n(to, columns, 0.0f);
    }
  }
}

void run_iota(const Call& call, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) call.out[0].as<float>()[i] = static_cast<float>(i);
}

constexpr Primitive kPrimitives[] = {
    {GatherRows::name, output_rows, run_gather_rows},
    {Iota::name, output_rows, run_iota},
};

}  // namespace

std::span<const Primitive> indexing_primitives() { return kPrimitives; }

}  // namespace weft::ref
