// Attention over gathered keys and values in terms of primitives, in tiles of heads and queries.
#pragma once

#include <algorithm>
#include <limits>

#include "ops/alibi.h"
#include "ops/indexing.h"
#include "ops/matmul.h"
#include "ops/reduce.h"

namespace weft {

/// Bytes the scores of one tile may take. A few tensors of that size live at once.
inline constexpr int64_t kScoreTileBytes = int64_t{64} << 20;

struct Attention {
  Value queries;                  // [n_head, T, d], scaled
  Value keys;                     // [n_kv_head, S * C, d]: C places for each of S sequences
  Value values;                   // like keys
  Value positions, sequence_ids;  // [T] f32
  Value kv_lengths;               // [S] f32
  Value sinks;                    // [n_head] or null
  int window = 0;
  bool alibi = false;
  float alibi_scale = 1;
  float softcap = 0;

  /// -> [n_head, T, d]
  Value build(int64_t tile_bytes = kScoreTileBytes) const {
    const int64_t t = queries.type().shape[1], n_kv_head = keys.type().shape[0];
    const int64_t query_bytes = group() * keys.type().shape[1] * static_cast<int64_t>(sizeof(float));
    const int64_t heads = std::clamp<int64_t>(tile_bytes / std::max<int64_t>(1, query_bytes * t), 1, n_kv_head);
    const int64_t rows = heads > 1 ? t : std::clamp<int64_t>(tile_bytes / std::max<int64_t>(1, query_bytes), 1, t);
    std::vector<Value> row_tiles;
    for (int64_t row = 0; row < t; row += rows) {
      const Seen seen = see(row, std::min(rows, t - row));
      std::vector<Value> head_tiles;
      for (int64_t head = 0; head < n_kv_head; head += heads) {
        head_tiles.push_back(tile(seen, head, std::min(heads, n_kv_head - head)));
      }
      row_tiles.push_back(concat(0, std::move(head_tiles)));
    }
    return concat(1, std::move(row_tiles));
  }

 private:
  /// Queries [first, first + n): which keys they see and how far away those are.
  struct Seen {
    int64_t first, n;
    Value visible;  // [n, S * C]: 1 or 0
    Value offset;   // [n, S * C]: key position - query position; null without ALiBi
  };

  int64_t group() const { return queries.type().shape[0] / keys.type().shape[0]; }

  Seen see(int64_t first, int64_t n) const {
    const int64_t s = kv_lengths.type().shape[0], keys_n = keys.type().shape[1], c = keys_n / s;
    const Value place = iota(*queries.graph, c);                                           // of a key in its sequence
    const Value distance = sub(reshape(slice(positions, 0, first, n), {n, 1, 1}), place);  // [n, 1, C]
    Value reached = less(-1.0f, distance);
    if (window > 0) reached = mul(reached, less(distance, static_cast<float>(window)));
    const Value mine = equal(reshape(slice(sequence_ids, 0, first, n), {n, 1, 1}),
                             reshape(iota(*queries.graph, s), {s, 1}));  // [n, S, 1]
    const Value cached = less(place, reshape(kv_lengths, {s, 1}));       // [S, C]
    const Value visible = reshape(mul(mul(cached, mine), reached), {n, keys_n});
    if (!alibi) return {first, n, visible, {}};
    const Value everywhere = constant(*queries.graph, std::vector<float>(static_cast<size_t>(s), -1.0f), {s, 1});
    return {first, n, visible, reshape(mul(distance, everywhere), {n, keys_n})};
  }

  /// Context of `heads` kv heads and the query heads that read them -> [heads * group, n, d].
  Value tile(const Seen& rows, int64_t head, int64_t heads) const {
    const int64_t first = head * group(), n_head = heads * group();
    const int64_t d = queries.type().shape[2], keys_n = keys.type().shape[1];
    const Value q = slice(slice(queries, 0, first, n_head), 1, rows.first, rows.n);
    const Value products =
        batch_matmul(reshape(q, {heads, group() * rows.n, d}, Rows::all), slice(keys, 0, head, heads));
    Value scores = reshape(products, {n_head, rows.n, keys_n});
    if (softcap > 0) scores = mul(tanh(div(scores, softcap)), softcap);
    if (rows.offset) scores = add(scores, mul(slopes(first, n_head), rows.offset));

    // The lowest finite number stands for "invisible": rows that see nothing stay finite, and what it becomes is
    // multiplied away.
    const Value lowest = scalar(scores, std::numeric_limits<float>::lowest());
    scores = select(rows.visible, scores, lowest);
    Value peak = reduce_max(scores);  // [n_head, n, 1]
    const Value sink = sinks ? reshape(slice(sinks, 0, first, n_head), {n_head, 1, 1}) : Value{};
    if (sink) peak = maximum(peak, sink);
    const Value weights = mul(exp(sub(scores, peak)), rows.visible);
    Value total = reduce_sum(weights);
    if (sink) total = add(total, exp(sub(sink, peak)));
    total = add(total, equal(total, 0.0f));  // nothing visible: 0 / 1

    const Value sums = batch_matmul(reshape(weights, {heads, group() * rows.n, keys_n}, Rows::all),
                                    slice(values, 0, head, heads), /*transpose_b=*/false);
    return div(reshape(sums, {n_head, rows.n, d}), total);
  }

  Value slopes(int64_t first, int64_t n) const {
    const auto all = alibi_slopes(static_cast<int>(queries.type().shape[0]), static_cast<double>(alibi_scale));
    return constant(*queries.graph, {all.begin() + first, all.begin() + first + n}, {n, 1, 1});
  }
};

}  // namespace weft
