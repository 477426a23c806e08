#include "models/forward.h"

#include <fmt/ranges.h>

#include "ops/elementwise.h"
#include "ops/indexing.h"
#include "ops/linear.h"
#include "ops/quant/f32.h"

namespace weft {

Forward::Forward(Graph& g, const Model& m, const PlanKey& key, const KvLayout& kv)
    : graph(g), model(m), metadata(m.metadata()), shape(m.shape()), kv_(kv), stretched_(key.stretched) {
  const auto i32 = [](Shape s, Rows rows = Rows::all) { return TensorType{quant::i32, s, rows}; };
  ids = g.input("ids", i32({key.tokens}, Rows::tokens));
  positions = g.input("positions", i32({key.tokens}, Rows::tokens));
  slots = g.input("slots", i32({key.tokens}, Rows::tokens));
  sequence_ids = g.input("sequence_ids", i32({key.tokens}, Rows::tokens));
  sequence_starts = g.input("sequence_starts", i32({key.sequences + 1}));
  kv_lengths = g.input("kv_lengths", i32({key.sequences}));
  page_table = g.input("page_table", i32({key.sequences, key.kv_pages}));
  logit_rows = g.input("logit_rows", i32({key.logits}, Rows::logits));
}

Value Forward::weight(const std::string& name) {
  const Tensor* tensor = model.find(name);
  if (tensor == nullptr) return {};
  const auto [it, added] = weights_.try_emplace(name);
  if (added) it->second = graph.weight(name, *tensor);
  return it->second;
}

Value Forward::weight_rows(const std::string& name, int64_t first, int64_t count) {
  const Tensor* whole = model.find(name);
  require(whole != nullptr, "{}: tensor {} is missing", model.path(), name);
  const int64_t rows = whole->type.shape.rows();
  require(first >= 0 && count >= 0 && first <= rows - count, "{}: rows [{}, {}) of {}, which has {}", model.path(),
          first, first + count, name, rows);
  const std::string label = fmt::format("{}[{}:{}]", name, first, first + count);
  const auto [it, added] = weights_.try_emplace(label);
  if (added) {
    const Tensor view{{whole->type.dtype, {count, whole->type.shape.columns()}},
                      whole->data + static_cast<size_t>(first) * whole->type.row_bytes()};
    it->second = graph.weight(label, view);
  }
  return it->second;
}

Forward::RowBlocks Forward::row_blocks(int64_t layer, std::initializer_list<std::string_view> names) {
  RowBlocks blocks;
  for (const std::string_view name : names) {
    blocks.weights.push_back(block_weight(layer, fmt::format("{}.weight", name)));
    if (const Value bias = block_weight(layer, fmt::format("{}.bias", name))) blocks.biases.push_back(bias);
  }
  require(blocks.biases.empty() || blocks.biases.size() == names.size(), "{}: blk.{} has biases for {} of {}, not all",
          model.path(), layer, blocks.biases.size(), fmt::join(names, ", "));
  return blocks;
}

Forward::RowBlocks Forward::qkv_blocks(int64_t layer) {
  if (block_weight(layer, "attn_qkv.weight")) return row_blocks(layer, {"attn_qkv"});
  return row_blocks(layer, {"attn_q", "attn_k", "attn_v"});
}

Value Forward::vector(const std::vector<float>& values) {
  return constant(graph, values, {static_cast<int64_t>(values.size())});
}

Value Forward::attention(int64_t layer, const SoftmaxContext& op, const AttentionInputs& in) {
  const TensorType cache{kv_.dtype, {kv_.pages, op.n_kv_head, kv_.page_size, op.d_head}};
  const Value k = graph.state(fmt::format("k_cache.{}", layer), cache);
  const Value v = graph.state(fmt::format("v_cache.{}", layer), cache);
  return graph.add(op, {in.qkv, k, v, positions, slots, sequence_ids, sequence_starts, kv_lengths, page_table,
                        in.q_gamma, in.k_gamma, in.rope_factors, in.sinks})[0];
}

Value Forward::wanted_rows(Value x) {
  const bool all = ids.type().shape[0] == 1 && logit_rows.type().shape[0] == 1;  // a step has a token, and wants one
  return all ? x : gather_rows(x, logit_rows);
}

Value Forward::logits(Value x, NormKind kind, float eps) {
  return unembed(norm(kind, wanted_rows(x), weight("output_norm.weight"), weight("output_norm.bias"), eps));
}

Value Forward::unembed(Value rows) {
  const Value output = weight("output.weight"), bias = weight("output.bias");
  return linear(rows, {output ? output : weight("token_embd.weight")}, bias ? std::vector{bias} : std::vector<Value>{});
}

}  // namespace weft
