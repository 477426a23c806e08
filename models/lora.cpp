#include "models/lora.h"

#include <algorithm>
#include <map>

#include "graph/rewrite.h"
#include "models/model.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/movement.h"

namespace weft {
namespace {

/// What adapters add to a weight of the graph, which may be some rows of a tensor.
struct Addition {
  const LoraPair* pair;
  size_t adapter;
  int64_t first_row;
};

class Adapting {
 public:
  explicit Adapting(const Model& model) : model_(model) {}

  /// Whether an adapted weight is among the inputs of a node.
  bool touches(const Values& in) const {
    const auto all = in.all();
    return std::ranges::any_of(all, [&](const Value& v) { return v && !additions(v).empty(); });
  }

  std::vector<Value> replace(Graph& to, const Node& node, const Values& in) {
    if (!touches(in)) return {};
    if (node.op->name == Matmul::name) return {matmul_with(to, in[Matmul::kX], in.list(Matmul::kWeight))};
    require(node.op->name == IndexedMatmul::name, "{}: an adapter cannot change a weight that {} reads",
            model_.adapters().front().path, node.op->name);
    const Value x = in[IndexedMatmul::kX], ids = in[IndexedMatmul::kIds], weight = in[IndexedMatmul::kWeight];
    Value y = indexed_matmul(x, ids, weight);
    for (const Addition& more : additions(weight)) {
      const Value t = indexed_matmul(x, ids, factor(to, more, 'a', *more.pair->a));
      y = add(y, indexed_matmul(t, ids, factor(to, more, 'b', *more.pair->b)));
    }
    return {y};
  }

 private:
  std::vector<Addition> additions(const Value& value) const {
    std::vector<Addition> found;
    const auto* weight = value.graph->node(value.node).as<WeightOp>();
    if (weight == nullptr) return found;
    for (size_t i = 0; i < model_.adapters().size(); ++i) {
      for (const LoraPair& pair : model_.adapters()[i].pairs) {
        const Tensor* whole = model_.find(pair.tensor);
        if (whole == nullptr || weight->host.data < whole->data ||
            weight->host.data >= whole->data + whole->type.bytes()) {
          continue;
        }
        const auto bytes = static_cast<size_t>(weight->host.data - whole->data);
        found.push_back({&pair, i, static_cast<int64_t>(bytes / whole->type.row_bytes())});
      }
    }
    return found;
  }

  Value factor(Graph& to, const Addition& more, char which, const Tensor& tensor) {
    const std::string label =
        fmt::format("{}.lora_{}.{}[{}]", more.pair->tensor, which, more.adapter, which == 'b' ? more.first_row : 0);
    const auto [it, added] = factors_.try_emplace(label);
    if (added) it->second = to.weight(label, tensor);
    return it->second;
  }

  Value matmul_with(Graph& to, Value x, std::span<const Value> blocks) {
    std::vector<Value> parts, plain;
    const auto flush = [&] {
      if (!plain.empty()) parts.push_back(matmul(x, std::move(plain)));
      plain.clear();
    };
    for (const Value& block : blocks) {
      const auto more = additions(block);
      if (more.empty()) {
        plain.push_back(block);
        continue;
      }
      flush();
      Value y = matmul(x, {block});
      for (const Addition& one : more) {
        const Tensor& b = *one.pair->b;
        const Tensor rows{{b.type.dtype, {block.type().shape[0], b.type.shape.columns()}},
                          b.data + static_cast<size_t>(one.first_row) * b.type.row_bytes()};
        y = add(y, matmul(matmul(x, {factor(to, one, 'a', *one.pair->a)}), {factor(to, one, 'b', rows)}));
      }
      parts.push_back(y);
    }
    flush();
    return parts.size() == 1 ? parts.front() : concat(1, std::move(parts));
  }

  const Model& model_;
  std::map<std::string, Value> factors_;  // by label, in the graph that is being written
};

}  // namespace

void check_lora(const LoraPair& pair, const TensorType& weight) {
  const Shape &w = weight.shape, &a = pair.a->type.shape, &b = pair.b->type.shape;
  const int rank = w.rank();
  const bool fits = (rank == 2 || rank == 3) && a.rank() == rank && b.rank() == rank && a[rank - 1] == w[rank - 1] &&
                    b[rank - 2] == w[rank - 2] && a[rank - 2] == b[rank - 1] &&
                    (rank == 2 || (a[0] == w[0] && b[0] == w[0]));
  require(fits && b.columns() > 0, "the adapter has {} and {} for {}, which is {}", to_string(pair.a->type),
          to_string(pair.b->type), pair.tensor, to_string(weight));
}

std::unique_ptr<Graph> with_adapters(const Graph& graph, const Model& model) {
  Adapting adapting(model);
  std::unique_ptr<Graph> now = rewrite(graph, [](Graph&, const Node&, const Values&) { return std::vector<Value>(); });
  const auto composite = [&](const Node& node) {
    return !is_source(node) && !node.op->primitive() && adapting.touches(node.in);
  };
  while (std::ranges::any_of(now->nodes(), composite)) {
    now = rewrite(*now, [&](Graph&, const Node& node, const Values& in) {
      return composite(node) ? node.op->lower(node.attrs.get(), in) : std::vector<Value>();
    });
  }
  return rewrite(*now, [&](Graph& to, const Node& node, const Values& in) { return adapting.replace(to, node, in); });
}

}  // namespace weft
