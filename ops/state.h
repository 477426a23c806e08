// Primitives on the paged KV cache, [pages, heads, page, d]: slot = page id * page + offset.
#pragma once

#include "ops/build.h"
#include "ops/check.h"

namespace weft {

struct AppendPages {
  static constexpr std::string_view name = "append_pages", doc = R"(
    cache' = the cache with rows[t] stored at slots[t], in place. Slots < 0 or past the cache and
    dead rows are not stored.
    cache [P, H, page, d] f32, f16, bf16 or q8_0   rows [T, H, d] f32   slots [T] i32, distinct   ->   cache'.)";
  enum Input { kCache, kRows, kSlots };
  static constexpr std::array inputs = {one("cache"), one("rows"), one("slots")};
  static constexpr std::array outputs = {OutputSpec{"cache", kCache}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType cache = in[kCache], rows = in[kRows];
    check_rank(cache, 4, "cache");
    require(cache.dtype->encode != nullptr, "nothing can be stored as {}", cache.dtype.name());
    check_rank(rows, 3, "rows");
    check_f32(rows, {rows.shape[0], cache.shape[1], cache.shape[3]}, "rows");
    check_i32(in[kSlots], {rows.shape[0]}, "slots");
    common_rows({rows, in[kSlots]});
    return {cache};
  }

  Cost cost(const Types& in, const std::vector<TensorType>&, const Workload& workload) const {
    return {.activation_bytes = 2 * live_bytes(in[kRows], workload)};
  }
};

struct GatherPages {
  static constexpr std::string_view name = "gather_pages", doc = R"(
    The cached rows of every sequence, one after another: y[h, (s M + m) page + i] = cache[page_table[s, m], h, i] where
    m page + i < lengths[s] and the page id is in range, zero elsewhere.
    cache [P, H, page, d] of any type   page_table [S, M] i32   lengths [S] i32   ->   y [H, S M page, d] f32.)";
  enum Input { kCache, kPageTable, kLengths };
  static constexpr std::array inputs = {one("cache"), one("page_table"), one("lengths")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr auto fields = field_list();

  std::vector<TensorType> infer(const Types& in) const {
    const TensorType cache = in[kCache], table = in[kPageTable];
    check_rank(cache, 4, "cache");
    check_rank(table, 2, "page_table");
    check_i32(table, table.shape, "page_table");
    check_i32(in[kLengths], {table.shape[0]}, "lengths");
    return {f32_type({cache.shape[1], table.shape.elements() * cache.shape[2], cache.shape[3]})};
  }

  /// What is cached is read, the whole output written.
  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    const TensorType cache = in[kCache];
    const auto cached = static_cast<double>(workload.sequences * workload.kv_length * cache.shape[1]);
    return {.weight_bytes = cached * static_cast<double>(cache.row_bytes()),
            .activation_bytes = live_bytes(out[0], workload)};
  }
};

inline Value append_pages(Value cache, Value rows, Value slots) {
  return build(AppendPages{}, {cache, rows, slots})[0];
}
inline Value gather_pages(Value cache, Value page_table, Value lengths) {
  return build(GatherPages{}, {cache, page_table, lengths})[0];
}

}  // namespace weft
