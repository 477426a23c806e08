// A GPT-2-shaped graph of the fused ops, small and seeded: what placement, scheduling and the runner are tested with.
#pragma once

#include <cmath>
#include <deque>
#include <random>

#include "ops/embedding.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "ops/mlp_gemm.h"
#include "ops/qkv_gemm.h"
#include "ops/residual_add.h"
#include "ops/softmax_context.h"
#include "ops/vector_matmul.h"
#include "tests/support/evaluate.h"

namespace weft::testing {

struct GptSize {
  int64_t layers = 2, width = 16, heads = 2, vocab = 32;
  int64_t tokens = 4, logits = 1, pages = 3, page_size = 4, context = 12;
};

class GptGraph {
 public:
  explicit GptGraph(const GptSize& s = {}) : size(s) {
    const int64_t d = s.width, d_head = d / s.heads;
    const auto i32 = [&](std::string name, Shape shape, Rows rows = Rows::all) {
      return graph.input(std::move(name), i32_type(shape, rows));
    };
    const Value ids = i32("ids", {s.tokens}, Rows::tokens), positions = i32("positions", {s.tokens}, Rows::tokens);
    const Value slots = i32("slots", {s.tokens}, Rows::tokens);
    const Value sequence_ids = i32("sequence_ids", {s.tokens}, Rows::tokens);
    const Value starts = i32("sequence_starts", {2}), lengths = i32("kv_lengths", {1});
    const Value table = i32("page_table", {1, s.pages});
    const Value logit_rows = i32("logit_rows", {s.logits}, Rows::logits);

    const Value tokens = weight("token_embd", {s.vocab, d});
    Value x = graph.add(Embedding{}, {ids, tokens, positions, weight("position_embd", {s.context, d})})[0];
    for (int64_t i = 0; i < s.layers; ++i) {
      const Graph::Scope scope(graph, fmt::format("blk.{}", i));
      const auto w = [&](std::string_view name, Shape shape) {
        return weight(fmt::format("blk.{}.{}", i, name), shape);
      };
      const Value qkv = graph.add(QkvGemm{}, {x, w("qkv", {3 * d, d}), w("qkv.bias", {3 * d}), w("norm", {d}), {}})[0];
      const TensorType cache = f32_type({s.pages, s.heads, s.page_size, d_head});
      const Value k = graph.state(fmt::format("k_cache.{}", i), cache);
      const Value v = graph.state(fmt::format("v_cache.{}", i), cache);
      const auto heads = static_cast<int>(s.heads);
      const SoftmaxContext attend{.n_head = heads,
                                  .n_kv_head = heads,
                                  .d_head = static_cast<int>(d_head),
                                  .scale = 1 / std::sqrt(static_cast<float>(d_head))};
      const Value context =
          graph.add(attend, {qkv, k, v, positions, slots, sequence_ids, starts, lengths, table, {}, {}, {}, {}})[0];
      const Value attention = graph.add(VectorMatmul{}, {context, w("output", {d, d})})[0];
      const Value bias = w("output.bias", {d});
      const Value mlp = graph.add(MlpGemm{}, {attention,
                                              x,
                                              bias,
                                              w("ffn_norm", {d}),
                                              {},
                                              w("up", {4 * d, d}),
                                              w("up.bias", {4 * d}),
                                              w("down", {d, 4 * d})})[0];
      x = graph.add(ResidualAdd{}, {mlp, x, attention, bias, w("down.bias", {d})})[0];
    }
    x = gather_rows(x, logit_rows);
    x = graph.add(LayerNorm{}, {x, weight("output_norm", {d}), {}})[0];
    graph.output("logits", graph.add(Linear{}, {x, tokens, {}})[0]);
  }

  Graph graph;
  GptSize size;

  /// One sequence: tokens `ids` after `cached` others, logits of the last one.
  Feeds feeds(const std::vector<int32_t>& ids, int32_t cached) const {
    const auto n = static_cast<int32_t>(ids.size());
    std::vector<int32_t> places, pages;
    for (int32_t i = 0; i < n; ++i) places.push_back(cached + i);
    for (int32_t p = 0; p < size.pages; ++p) pages.push_back(p);
    Feeds feeds;
    feeds["ids"] = bytes_of(ids);
    feeds["positions"] = feeds["slots"] = bytes_of(places);  // pages in order: a slot is a position
    feeds["sequence_ids"] = bytes_of(std::vector<int32_t>(ids.size(), 0));
    feeds["sequence_starts"] = bytes_of(std::vector<int32_t>{0, n});
    feeds["kv_lengths"] = bytes_of(std::vector<int32_t>{cached + n});
    feeds["page_table"] = bytes_of(pages);
    feeds["logit_rows"] = bytes_of(std::vector<int32_t>{n - 1});
    return feeds;
  }

 private:
  Value weight(std::string name, Shape shape) {
    std::normal_distribution<float> normal(0, 0.3f);
    std::vector<float> values(static_cast<size_t>(shape.elements()));
    for (float& value : values) value = normal(generator_);
    const auto& bytes = weights_.emplace_back(bytes_of(values));
    return graph.weight(std::move(name), {f32_type(shape), const_cast<std::byte*>(bytes.data()), nullptr});
  }

  std::deque<std::vector<std::byte>> weights_;
  std::mt19937 generator_{7};
};

}  // namespace weft::testing
