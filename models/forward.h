// What an architecture's forward writes its graph with: the step's inputs, the model's weights, the KV cache.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "models/model.h"
#include "ops/norm.h"
#include "ops/softmax_context.h"

namespace weft {

/// The capacities a plan is made for; how much of them is live arrives as data.
struct PlanKey {
  int64_t tokens = 1;  // tokens fed
  int64_t logits = 1;  // tokens whose logits are wanted
  int64_t ranked = 0;  // how many of a token's logits are, the largest; 0 = all
  bool drawn = false;  // of those a token is drawn, and it alone is wanted; each token's logits are
  int64_t sequences = 1;
  int64_t kv_pages = 1;    // pages of the longest sequence
  bool stretched = false;  // beyond the context that longrope's short factors are for

  friend auto operator<=>(const PlanKey&, const PlanKey&) = default;
};

/// How keys and values are kept.
struct KvLayout {
  DType dtype;
  int64_t pages = 0;      // in all, shared by the sequences
  int64_t page_size = 0;  // tokens
};

class Forward {
 public:
  Forward(Graph& graph, const Model& model, const PlanKey& key, const KvLayout& kv);

  Graph& graph;
  const Model& model;
  const Metadata& metadata;
  const ModelShape& shape;

  // The step's inputs, i32. Names as written here: the session fills them.
  Value ids, positions;                           // [T]
  Value slots, sequence_ids;                      // [T]
  Value sequence_starts, kv_lengths, page_table;  // [S + 1], [S], [S, M]
  Value logit_rows;                               // [L] rows of the step whose logits are wanted

  /// The weight of that GGUF name; null if the model has none.
  Value weight(const std::string& name);
  /// "blk.3.attn_norm.weight" from (3, "attn_norm.weight").
  Value block_weight(int64_t layer, std::string_view name) { return weight(fmt::format("blk.{}.{}", layer, name)); }
  /// Rows [first, first + count) of the matrix of that name, which must exist: a view, without a copy.
  Value weight_rows(const std::string& name, int64_t first, int64_t count);
  /// Tensors of a layer that are multiplied as one matrix, and their biases: all of them or none.
  struct RowBlocks {
    std::vector<Value> weights, biases;
  };
  /// From ("attn_q", "attn_k", "attn_v").
  RowBlocks row_blocks(int64_t layer, std::initializer_list<std::string_view> names);
  /// attn_qkv, or attn_q, attn_k and attn_v, whichever the model has.
  RowBlocks qkv_blocks(int64_t layer);

  /// Whether the sequences of the step are longer than original_context: longrope's long factors are theirs.
  bool stretched() const { return stretched_; }

  /// A vector of numbers known now, [n] f32.
  Value vector(const std::vector<float>& values);

  /// softmax_context over this layer's cache; returns the context [T, n_head d_head].
  struct AttentionInputs {
    Value qkv;
    Value q_gamma{}, k_gamma{}, rope_factors{}, sinks{};
  };
  Value attention(int64_t layer, const SoftmaxContext& op, const AttentionInputs& in);

  /// The rows whose logits are wanted: [T, D] -> [L, D].
  Value wanted_rows(Value x);
  /// x [T, D] -> logits [L, vocab]: the wanted rows through output_norm and the output matrix, tied to token_embd if
  /// the model has none, and its bias if it has one.
  Value logits(Value x, NormKind norm, float eps);
  /// The part of `logits` after the norm: [L, D] -> [L, vocab].
  Value unembed(Value rows);

 private:
  KvLayout kv_;
  bool stretched_;
  std::map<std::string, Value> weights_;
};

}  // namespace weft
