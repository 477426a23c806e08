#include "ops/state.h"

#include "backends/ref/primitives.h"
#include "backends/ref/rows.h"

namespace weft::ref {
namespace {

int64_t live_tokens(const Call& call) {
  TensorType type = call.input(AppendPages::kRows).type;
  type.rows = common_rows({type, call.input(AppendPages::kSlots).type});
  return std::clamp<int64_t>(live_rows(type, call.live), 0, type.shape[0]);
}

void run_append(const Call& call, int64_t first, int64_t last) {
  const Tensor cache = call.out[0], rows = call.input(AppendPages::kRows);
  const int32_t* slots = call.input(AppendPages::kSlots).as<int32_t>();
  const int64_t heads = cache.dim(1), page = cache.dim(2), d = cache.dim(3);
  for (int64_t t = first; t < last; ++t) {
    const int64_t slot = slots[t];
    if (slot < 0 || slot >= cache.dim(0) * page) continue;
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t row = (slot / page * heads + h) * page + slot % page;
      cache.type.dtype->encode(rows.as<float>() + (t * heads + h) * d,
                               cache.data + static_cast<size_t>(row) * cache.type.row_bytes(), static_cast<size_t>(d),
                               nullptr);
    }
  }
}

void run_gather(const Call& call, int64_t first, int64_t last) {
  const Tensor cache = call.input(GatherPages::kCache), table = call.input(GatherPages::kPageTable), y = call.out[0];
  const int32_t* lengths = call.input(GatherPages::kLengths).as<int32_t>();
  const int64_t heads = cache.dim(1), page = cache.dim(2), d = cache.dim(3), places = table.dim(1) * page;
  for (int64_t row = first; row < last; ++row) {
    const int64_t h = row / y.dim(1), sequence = row % y.dim(1) / places, place = row % y.dim(1) % places;
    const int64_t page_id = table.as<int32_t>()[sequence * table.dim(1) + place / page];
    float* to = y.as<float>() + row * d;
    if (place < lengths[sequence] && page_id >= 0 && page_id < cache.dim(0)) {
      decode_row(cache, (page_id * heads + h) * page + place % page, to);
    } else {
      std::fill_n(to, d, 0.0f);
    }
  }
}

constexpr Primitive kPrimitives[] = {
    {AppendPages::name, live_tokens, run_append},
    {GatherPages::name, output_rows, run_gather},
};

}  // namespace

std::span<const Primitive> state_primitives() { return kPrimitives; }

}  // namespace weft::ref
