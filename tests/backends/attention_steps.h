// Steps of softmax_context against paged caches that earlier steps left, for the tests of the backends' kernels.
#pragma once

#include <algorithm>
#include <cmath>

#include "ops/all.h"
#include "tests/support/op_fixture.h"

namespace weft::testing {

struct Variant {
  std::string name;
  SoftmaxContext op;
  bool q_norm = false, whole_row = false, factors = false, sinks = false;
};

inline SoftmaxContext heads(int n_head, int n_kv_head, int d_head) {
  SoftmaxContext op;
  op.n_head = n_head;
  op.n_kv_head = n_kv_head;
  op.d_head = d_head;
  op.scale = 1 / std::sqrt(static_cast<float>(d_head));
  op.qk_norm_eps = 1e-6f;
  return op;
}

/// One step: tokens of some sequences on top of `past` cached ones.
struct Batch {
  std::vector<int> past, fed;
  int capacity;  // tokens of the plan
  int page = 4;
};

/// Graph, feeds and a cache full of earlier tokens. Pages are handed out backwards; one table entry is out of range.
inline NodeId make_step(OpGraph& g, const Variant& v, const Batch& b, DType cache) {
  const auto& op = v.op;
  const int64_t s = static_cast<int64_t>(b.past.size()), t = b.capacity;
  std::vector<int32_t> positions, slots, ids, starts{0}, lengths, table;
  int longest = 0;
  for (size_t i = 0; i < b.past.size(); ++i) longest = std::max(longest, b.past[i] + b.fed[i]);
  const int per_sequence = longest / b.page + 2, pages = per_sequence * static_cast<int>(s);
  for (int i = 0; i < pages; ++i) table.push_back(pages - 1 - i);
  for (int i = 0; i < static_cast<int>(s); ++i) {
    const auto index = static_cast<size_t>(i);
    for (int j = 0; j < b.fed[index]; ++j) {
      const int position = b.past[index] + j;
      positions.push_back(position);
      slots.push_back(table[static_cast<size_t>(i * per_sequence + position / b.page)] * b.page + position % b.page);
      ids.push_back(i);
    }
    starts.push_back(static_cast<int32_t>(ids.size()));
    lengths.push_back(b.past[index] + b.fed[index]);
  }
  g.live.tokens = static_cast<int32_t>(ids.size());
  for (int i = 0; i < static_cast<int>(s); ++i) table[static_cast<size_t>((i + 1) * per_sequence - 1)] = 1 << 20;
  for (auto* list : {&positions, &slots, &ids}) list->resize(static_cast<size_t>(t), -1);

  const TensorType type{cache, {pages, op.n_kv_head, b.page, op.d_head}, Rows::all};
  const auto state = [&](const std::string& name) {
    HostTensor& tensor = g.states[name] = {type, std::vector<std::byte>(type.bytes())};
    const auto values = g.random_values(type.elements());
    cache->encode(values.data(), tensor.bytes.data(), values.size(), nullptr);
    return g.graph.state(name, type);
  };
  const Value qkv = g.random({t, int64_t{op.n_head + 2 * op.n_kv_head} * op.d_head}, 1, Rows::tokens);
  const auto gamma = [&](int n) {
    return v.q_norm ? g.random({v.whole_row ? int64_t{n} * op.d_head : op.d_head}) : Value{};
  };
  std::vector<float> factors;
  for (int i = 0; i < op.rotary_dim / 2; ++i) factors.push_back(1.0f + 0.25f * static_cast<float>(i));
  const auto sequence = [&](const std::vector<int32_t>& list) {
    return g.i32({static_cast<int64_t>(list.size())}, list);
  };
  const auto token = [&](const std::vector<int32_t>& list) { return g.i32({t}, list, Rows::tokens); };
  return g.graph
      .add(op,
           {qkv, state("k"), state("v"), token(positions), token(slots), token(ids), sequence(starts),
            sequence(lengths), g.i32({s, per_sequence}, table), gamma(op.n_head), gamma(op.n_kv_head),
            v.factors ? g.f32({op.rotary_dim / 2}, factors) : Value{}, v.sinks ? g.random({op.n_head}) : Value{}})[0]
      .node;
}

}  // namespace weft::testing
